#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "run/sweep.hpp"

using namespace fedctl;
using namespace fedctl::run;
namespace fs = std::filesystem;

namespace {

constexpr const char* kToy =
    "name: toy\nmodel: {kind: quadratic}\nadapter: {kind: full}\n"
    "data: {kind: quadratic_targets, clients: 4, partition: {kind: by_field}, holdout: 0}\n"
    "clients: {count: 4}\ntrain: {optimizer: {kind: sgd, lr: 0.05}}\n";

// A folder of this test's own with an experiment, removed at its end.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("fedctl-sweep-" + std::to_string(::getpid()));
  Folder() {
    fs::create_directories(path);
    std::ofstream(path / "toy.yaml") << kToy;
  }
  ~Folder() { fs::remove_all(path); }
  config::Source source(const std::string& text) const {
    return {"name: s\nexperiment: toy.yaml\n" + text, (path / "s.yaml").string(), {}};
  }
  Sweep read(const std::string& text) const { return read_sweep(source(text), ""); }
  // The message of the error, without the folder.
  std::string fault(const std::string& text) const {
    try {
      Sweep sweep = read(text);
      check_sweep(sweep, {});
    } catch (const Error& error) {
      const std::string message = error.what();
      CHECK(message.starts_with(path.string()));
      return message.substr(std::min(message.size(), path.string().size() + 1));
    }
    return "no error";
  }
};

std::vector<std::string> labels(const Sweep& sweep) {
  std::vector<std::string> labels;
  for (const Cell& cell : sweep.cells) labels.push_back(cell.label());
  return labels;
}

}  // namespace

TEST_CASE("a grid is the product of its lists, the last key fastest", "[sweep]") {
  const Folder folder;
  const Sweep sweep =
      folder.read("grid: {train.optimizer.lr: [0.1, 0.2], rounds: [1, 2, 3]}\nseeds: [4, 2]\n");
  CHECK(labels(sweep) == std::vector<std::string>{
                             "train.optimizer.lr=0.1 rounds=1", "train.optimizer.lr=0.1 rounds=2",
                             "train.optimizer.lr=0.1 rounds=3", "train.optimizer.lr=0.2 rounds=1",
                             "train.optimizer.lr=0.2 rounds=2", "train.optimizer.lr=0.2 rounds=3"});
  CHECK(sweep.seeds == std::vector<std::int64_t>{4, 2});
  CHECK(sweep.run_count() == 12);
  CHECK(sweep.seed_of(3) == 2);
  CHECK(&sweep.cell_of(3) == &sweep.cells[1]);
  CHECK(sweep.keys() == std::vector<std::string>{"train.optimizer.lr", "rounds"});
  CHECK(sweep.folder == "runs/s");
}

TEST_CASE("values of cells are any YAML, as --set takes it", "[sweep]") {
  const Folder folder;
  const Sweep sweep = folder.read(
      "cells:\n"
      "- codec.up: [{kind: topk, ratio: 0.1}]\n"
      "- {codec.up: [], model.path: \"a b\", rounds: 3}\n"
      "set: [train.epochs=2, 'codec.down=[{kind: float16}]']\n"
      "seeds: {first: 7, count: 2}\n");
  CHECK(labels(sweep) == std::vector<std::string>{"codec.up=[{kind: topk, ratio: 0.1}]",
                                                  "codec.up=[] model.path=\"a b\" rounds=3"});
  REQUIRE(sweep.set.size() == 2);
  CHECK(sweep.set[1].key == "codec.down");
  CHECK(sweep.set[1].value == "[{kind: float16}]");
  CHECK(sweep.seeds == std::vector<std::int64_t>{7, 8});
}

TEST_CASE("without cells the experiment itself is the only one", "[sweep]") {
  const Folder folder;
  Sweep sweep = folder.read("");
  check_sweep(sweep, {});
  CHECK(labels(sweep) == std::vector<std::string>{"all"});
  CHECK(sweep.seeds == std::vector<std::int64_t>{1, 2, 3});
}

TEST_CASE("faults have their place in the sweep file", "[sweep]") {
  const Folder folder;
  CHECK_THAT(folder.fault("gird: {rounds: [1]}\n"),
             Catch::StartsWith("s.yaml:3:1: unknown key gird"));
  CHECK_THAT(folder.fault("grid: {rounds: 3}\n"),
             Catch::StartsWith("s.yaml:3:16: grid.rounds must be a list"));
  CHECK_THAT(folder.fault("grid: {train.optimizer.lr: [0.1, -1]}\n"),
             Catch::StartsWith("s.yaml:3:34: cell \"train.optimizer.lr=-1\": "
                               "train.optimizer.lr is -1, must be"));
  CHECK_THAT(folder.fault("set: {rouns: 4}\n"), Catch::StartsWith("s.yaml:3:7: cell \"all\": "
                                                                  "unknown key rouns"));
  CHECK_THAT(folder.fault("cells:\n- {rounds: 1}\n- {clients.per_round: 9}\n"),
             Catch::StartsWith("s.yaml:5:") && Catch::Contains("clients.count is 4"));
  CHECK_THAT(folder.fault("grid: {seed: [1, 2]}\n"), Catch::Contains("seeds are the same"));
  CHECK_THAT(folder.fault("grid: {rounds: [1, 1]}\n"),
             Catch::Contains("is the same experiment as"));
  CHECK_THAT(folder.fault("seeds: [1, 1]\n"),
             Catch::StartsWith("s.yaml:3:12: seed 1 appears twice"));
  CHECK_THAT(folder.fault("seeds: [1.5]\n"), Catch::Contains("must be an integer"));
  CHECK_THAT(folder.fault("seeds: []\n"), Catch::Contains("seeds must be 1 to"));
  CHECK_THAT(folder.fault("grid: {rounds: [1]}\ncells: [{rounds: 1}]\n"),
             Catch::Contains("exclude each other"));
  CHECK_THAT(folder.fault("metric: f1\n"), Catch::Contains("evaluate.metrics does not name it"));
  CHECK_THAT(folder.fault("executor: {kind: local, cpus: 2}\n"),
             Catch::Contains("unknown key executor.cpus"));
  CHECK_THAT(folder.fault("grid: {a: [1, 2], b: " + std::string("[0") +
                          [] {
                            std::string more;
                            for (int i = 1; i < 6000; ++i) more += "," + std::to_string(i);
                            return more;
                          }() +
                          "]}\n"),
             Catch::Contains("more cells than 10000"));
}

TEST_CASE("a cell keeps its folder whatever else the sweep has, and loses it with the experiment",
          "[sweep]") {
  const Folder folder;
  const auto folders = [&](const std::string& text) {
    Sweep sweep = folder.read(text);
    check_sweep(sweep, {});
    std::vector<std::string> names;
    for (const Cell& cell : sweep.cells) names.push_back(cell.folder);
    return names;
  };
  const auto both = folders("grid: {train.optimizer.lr: [0.1, 0.2]}\n");
  CHECK_THAT(both[0], Catch::StartsWith("lr=0.1-"));
  CHECK(folders("cells: [{train.optimizer.lr: 0.2}]\nseeds: [9]\n")[0] == both[1]);
  CHECK(folders("set: {rounds: 3}\ngrid: {train.optimizer.lr: [0.1]}\n")[0] != both[0]);
}
