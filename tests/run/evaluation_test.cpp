// Whole simulated runs of the quadratic toy: who evaluates, what is the best model, when to stop.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "journal/journal.hpp"
#include "run/commands.hpp"
#include "run/job.hpp"

using namespace fedctl;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// Thirty owners dealt out to six clients; each keeps one of its five examples.
constexpr const char* kToy = R"(
name: toy
rounds: 4
model: {kind: quadratic}
adapter: {kind: full}
data:
  {kind: quadratic_targets, clients: 30, rows: 3, cols: 4, rank: 2, partition: iid, holdout: 0.2}
clients: {count: 6}
train: {steps: 2, optimizer: {kind: sgd, lr: 0.1, momentum: 0}}
)";

// Standard output goes nowhere while it lives: the lines are read from the journal.
struct Silence {
  Silence() {
    std::fflush(stdout);
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, STDOUT_FILENO);
    ::close(nowhere);
  }
  ~Silence() {
    std::fflush(stdout);
    ::dup2(kept, STDOUT_FILENO);
    ::close(kept);
  }
  int kept = ::dup(STDOUT_FILENO);
};

struct Run {
  explicit Run(const std::string& more) {
    static int count = 0;
    const std::string name =
        "fedctl-evaluation-" + std::to_string(::getpid()) + '-' + std::to_string(count++);
    path = (fs::temp_directory_path() / name).string();
    fs::remove_all(path);
    options.source = {kToy + more, "toy.yaml", {}};
    options.run_dir = path;
    options.output = {run::Format::json, true, false};
    options.threads = 1;
    go();
  }
  ~Run() { fs::remove_all(path); }
  void go() {
    const Silence silence;
    CHECK(run::simulate(options) == 0);
  }
  std::vector<json> lines(const std::string& event) const {
    std::vector<json> found;
    for (const std::string& line : journal::read_lines(path + "/journal.jsonl")) {
      json parsed = json::parse(line);
      if (parsed["event"] == event) found.push_back(std::move(parsed));
    }
    return found;
  }
  std::string path;
  run::RunOptions options;
};

}  // namespace

TEST_CASE("clients score the weights a round begins with on their held-out examples",
          "[run][evaluate]") {
  const run::Job job =
      run::make_job(run::read_experiment({kToy, "toy.yaml", {}}), 1);  // w = 0 at first
  double before = 0, held = 0;
  for (const data::Share& share : job.shares) {
    for (const std::size_t index : share.holdout) {
      const data::Batch batch = job.data.train->gather(std::span(&index, 1));
      for (const float value : batch.at("target").f32()) {
        before += 0.5 * static_cast<double>(value) * static_cast<double>(value);
      }
      ++held;
    }
  }
  CHECK(held == 6);

  const Run by_server("");
  const Run by_clients("evaluate: {on: clients}\n");
  const Run by_both("evaluate: {on: both}\n");
  const auto server = by_server.lines("round"), clients = by_clients.lines("round"),
             both = by_both.lines("round");
  REQUIRE((server.size() == 5 && clients.size() == 5 && both.size() == 5));
  CHECK(clients[0]["loss"].is_null());
  CHECK(clients[1]["loss"].get<double>() == Approx(before / held));
  CHECK_FALSE(server[1].contains("client_loss"));
  for (std::size_t round = 0; round < 5; ++round) {
    // Scoring changes nothing in the training, and both give both.
    CHECK(clients[round]["digest"] == server[round]["digest"]);
    CHECK(both[round]["digest"] == server[round]["digest"]);
    CHECK(both[round]["loss"] == server[round]["loss"]);
    if (round == 0) continue;
    CHECK(both[round]["client_loss"] == clients[round]["client_loss"]);
    CHECK(clients[round]["client_accuracy"].is_null());  // the toy has none
    CHECK(clients[round]["bytes"]["up"]["payload"] == server[round]["bytes"]["up"]["payload"]);
  }
  // The loss falls, so the best model is the last one that was scored: the server's last, and the
  // one that the clients' last round began with.
  CHECK(by_server.lines("end")[0]["best_round"] == 4);
  CHECK(by_clients.lines("end")[0]["best_round"] == 3);
}

TEST_CASE("clients evaluate in the rounds that are due", "[run][evaluate]") {
  const Run run("evaluate: {on: clients, every: 3}\n");
  std::vector<bool> scored;
  for (const json& line : run.lines("round")) scored.push_back(!line["loss"].is_null());
  CHECK(scored == std::vector<bool>{false, false, false, true, true});
}

TEST_CASE("a run without improvement for as long as patience ends as done, and stays ended",
          "[run][evaluate]") {
  Run run("evaluate: {patience: 2, min_delta: 1000000}\n");
  CHECK(run.lines("round").size() == 3);
  auto ends = run.lines("end");
  REQUIRE(ends.size() == 1);
  CHECK(ends[0]["status"] == "done");
  CHECK(ends[0]["reason"] == "early stop");
  CHECK(ends[0]["best_round"] == 2);  // min_delta is patience's alone
  run.options.start = run::Start::resume;
  run.go();
  CHECK(run.lines("round").size() == 3);
  ends = run.lines("end");
  REQUIRE(ends.size() == 2);
  CHECK(ends[1]["reason"] == "early stop");
}

TEST_CASE("a run that goes on improving is not stopped", "[run][evaluate]") {
  const Run run("evaluate: {patience: 1}\n");
  CHECK(run.lines("round").size() == 5);
  const auto ends = run.lines("end");
  REQUIRE(ends.size() == 1);
  CHECK_FALSE(ends[0].contains("reason"));
}
