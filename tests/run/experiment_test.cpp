#include "run/experiment.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"

using namespace fedctl;
using namespace fedctl::run;

namespace {

constexpr const char* kToy = R"(
name: toy
model: {kind: quadratic}
adapter: {kind: full}
data: {kind: quadratic_targets, clients: 6, partition: {kind: by_field}}
clients: {count: 6}
)";

Experiment read(const std::string& text) { return read_experiment({text, "exp.yaml", {}}); }

}  // namespace

TEST_CASE("the effective file reads back as the same experiment", "[run][config]") {
  Experiment first = read(kToy);
  const std::string text = config::write(first);
  Experiment second = read(text);
  CHECK(config::write(second) == text);
  CHECK(plan_digest(first) == plan_digest(second));
}

TEST_CASE("the plan's digest is blind to what only one side concerns", "[run][config]") {
  Experiment plain = read(kToy);
  Experiment elsewhere = read(
      std::string(kToy) +
      "server: {listen: '127.0.0.1:1', idle_s: 3}\nlog: {clients: true}\nevaluate: {every: 2}\n");
  Experiment other = read(std::string(kToy) + "seed: 2\n");
  CHECK(plan_digest(plain) == plan_digest(elsewhere));
  CHECK(plan_digest(plain) != plan_digest(other));
  CHECK(elsewhere.server.listen == "127.0.0.1:1");  // taking the digest changes nothing
}

TEST_CASE("keys that do not go together are refused with the place of one and the name of both",
          "[run][config]") {
  CHECK_THROWS_WITH(read(std::string(kToy) + "codec: {up: [{kind: quantize}, {kind: topk}]}\n"),
                    Catch::Contains("exp.yaml:7:") && Catch::Contains("codec.up[1]"));
  CHECK_THROWS_WITH(read("name: a\nclients: {count: 3, per_round: 4}\n"),
                    Catch::Contains("exp.yaml:2:") &&
                        Catch::Contains("clients.per_round is 4, but clients.count is 3"));
}

TEST_CASE("an evaluation that cannot be made is refused", "[run][config]") {
  const std::string toy = kToy;
  CHECK_THROWS_WITH(read(toy + "evaluate: {metrics: [f2]}\n"),
                    Catch::Contains("exp.yaml:7:") && Catch::Contains("\"f2\""));
  CHECK_THROWS_WITH(read(toy + "evaluate: {best: f1}\n"),
                    Catch::Contains("evaluate.best is f1") && Catch::Contains("evaluate.metrics"));
  CHECK_NOTHROW(read(toy + "evaluate: {best: f1, metrics: [auc, f1]}\n"));
  CHECK_THROWS_WITH(read(toy + "evaluate: {on: clients, metrics: [f1]}\n"),
                    Catch::Contains("evaluate.on is clients"));
  CHECK_THROWS_WITH(read("name: a\ndata: {holdout: 0}\nevaluate: {on: both}\n"),
                    Catch::Contains("exp.yaml:3:") && Catch::Contains("data.holdout is 0"));
}

TEST_CASE("every configuration of the repository is valid", "[run][config]") {
  std::size_t count = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(FEDCTL_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    INFO(entry.path());
    CHECK_NOTHROW(read_experiment(config::read_source(entry.path().string())));
    ++count;
  }
  CHECK(count >= 6);
}

// docs/experiment.schema.json: fedctl check --schema > docs/experiment.schema.json
TEST_CASE("the schema in the documentation is the one the readers give", "[run][config]") {
  std::ifstream in(FEDCTL_SOURCE_DIR "/docs/experiment.schema.json");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  Experiment experiment;
  CHECK(config::schema(experiment, "fedctl experiment") == text);
}
