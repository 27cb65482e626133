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

TEST_CASE("codec.bits_per_parameter is for every auto without its own", "[run][config][codec]") {
  const auto bits = [](const config::Plugin& plugin) {
    const std::string text = config::write(*plugin.options);
    return text.substr(0, text.find('\n'));
  };
  const Experiment one = read(std::string(kToy) +
                              "codec: {up: auto, down: [{kind: auto}], bits_per_parameter: 0.3}\n");
  CHECK(bits(one.codec.up[0]) == "bits_per_parameter: 0.3");
  CHECK(bits(one.codec.down[0]) == "bits_per_parameter: 0.3");
  const Experiment own = read(std::string(kToy) +
                              "codec: {up: {kind: auto, bits_per_parameter: 2}, "
                              "down: [{kind: auto, bits_per_parameter: 4}], "
                              "bits_per_parameter: 0.3}\n");
  CHECK(bits(own.codec.up[0]) == "bits_per_parameter: 2");
  CHECK(bits(own.codec.down[0]) == "bits_per_parameter: 4");
  CHECK_THROWS_WITH(read(std::string(kToy) + "codec: {up: drive, bits_per_parameter: 0.3}\n"),
                    Catch::Contains("exp.yaml:7:") && Catch::Contains("auto"));
  CHECK_THROWS_WITH(read(std::string(kToy) + "codec: {up: auto, bits_per_parameter: 0.01}\n"),
                    Catch::Contains("exp.yaml:7:") && Catch::Contains("0.02"));
}

TEST_CASE("a profile gives the keys that are not written", "[run][config][codec]") {
  Experiment profile = read(std::string(kToy) + "codec: {profile: sparse_lora}\n");
  Experiment written = read(std::string(kToy) + R"(
codec:
  up:   [{kind: topk, chunk: 4096, ratio: 0.015625}, sign]
  down: [{kind: topk, chunk: 4096, ratio: 0.015625}, sign]
  error_feedback: ef21
  error_feedback_down: ef21
method: {kind: fedavg, server_optimizer: {kind: momentum, lr: 0.3, beta: 0.5, nesterov: true}}
)");
  written.codec.profile = "sparse_lora";
  CHECK(config::write(profile) == config::write(written));
  Experiment dense = read(std::string(kToy) + "codec: {profile: dense_lora}\n");
  Experiment spelled = read(std::string(kToy) + R"(
codec:
  up: {kind: eden, bits: 1, keep: 0.3}
  down: {kind: auto, bits_per_parameter: 2}
  error_feedback_down: ef21
)");
  spelled.codec.profile = "dense_lora";
  CHECK(config::write(dense) == config::write(spelled));
  const Experiment other = read(std::string(kToy) +
                                "codec: {profile: sparse_lora, up: drive, error_feedback: none}\n"
                                "method: {kind: fedavg, server_optimizer: {kind: sgd}}\n");
  CHECK(other.codec.up[0].kind == "drive");
  CHECK(other.codec.down[0].kind == "topk");
  CHECK(other.codec.error_feedback == "none");
  Experiment plain =
      read(std::string(kToy) + "method: {kind: fedavg, server_optimizer: {kind: sgd}}\n");
  CHECK(config::write(*other.method.options) == config::write(*plain.method.options));
}

TEST_CASE("few bits without feedback and feedback of too large errors are warned of",
          "[run][config][codec]") {
  const auto warned = [](const std::string& codec) {
    const auto lines = warnings(read(std::string(kToy) + "codec: " + codec + "\n"));
    return lines.empty() ? std::string() : lines.front();
  };
  CHECK_THAT(warned("{up: auto}"), Catch::Contains("codec.up makes about 1.0"));
  CHECK_THAT(warned("{up: [{kind: topk}, sign]}"), Catch::Contains("codec.error_feedback"));
  CHECK_THAT(warned("{up: {kind: qsgd, levels: 1}, error_feedback: ef14}"),
             Catch::Contains("codec.error_feedback is ef14"));
  CHECK_THAT(warned("{up: {kind: eden, bits: 1, keep: 0.2}, error_feedback: ef21}"),
             Catch::Contains("times the squared values"));
  CHECK_THAT(warned("{down: {kind: auto, bits_per_parameter: 2}}"), Catch::Contains("codec.down"));
  for (const char* fine :
       {"{up: drive}", "{up: auto, error_feedback: ef14}", "{up: {kind: quantize, bits: 8}}",
        "{up: {kind: eden, bits: 2}, error_feedback: ef14}", "{profile: sparse_lora}",
        "{profile: dense_lora}", "{up: {kind: auto, bits_per_parameter: 6}}"}) {
    INFO(fine);
    CHECK(warned(fine) == "");
  }
}

TEST_CASE("a rate that an update is too short for is warned of", "[run][config][codec]") {
  const auto warned = [](const std::string& bits, std::size_t parameters) {
    return warnings(read(std::string(kToy) + "codec: {up: {kind: auto, bits_per_parameter: " +
                         bits + "}, error_feedback: ef14}\n"),
                    parameters);
  };
  CHECK_THAT(warned("0.5", 256).at(0),
             Catch::StartsWith("codec.up makes 0.5") && Catch::Contains("instead of 0.50") &&
                 Catch::Contains("256 values"));
  CHECK(warned("0.5", 3721).empty());
  CHECK(warned("0.1", 3721).empty());
  CHECK(warned("0.02", 100000).empty());
  CHECK(warned("0.5", 0).empty());  // not known yet
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
