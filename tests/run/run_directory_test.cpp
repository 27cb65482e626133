#include "run/run_directory.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "journal/journal.hpp"
#include "net/client_ids.hpp"

using namespace fedctl;
using namespace fedctl::run;
namespace fs = std::filesystem;

namespace {

// A folder of this test's own, removed at its end.
struct Folder {
  std::string path =
      (fs::temp_directory_path() / ("fedctl-run-" + std::to_string(::getpid()))).string();
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
};

wire::Message state(std::int64_t round) {
  const std::vector<float> weights{1.0F, static_cast<float>(round)};
  return wire::Message("checkpoint").with("round", round).with("weights", Tensor::of(weights, {}));
}

void flip_a_byte(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(25);
  file.put('!');
}

}  // namespace

TEST_CASE("a run directory is locked, and says both ways out when it holds a run", "[run]") {
  const Folder folder;
  {
    const RunDirectory first(folder.path, Start::create);
    CHECK_THROWS_AS(RunDirectory(folder.path, Start::create), RunDirectoryError);
    first.write("journal.jsonl", "{}\n");
    first.save_checkpoint(0, state(0), {});
  }
  try {
    const RunDirectory second(folder.path, Start::create);
    FAIL("a run was overwritten");
  } catch (const ConfigError& error) {
    CHECK_THAT(error.hint(), Catch::Contains("--resume") && Catch::Contains("--fresh"));
  }
  CHECK(RunDirectory(folder.path, Start::resume).resumed());
  const RunDirectory fresh(folder.path, Start::discard);
  CHECK_FALSE(fs::exists(fresh.file("journal.jsonl")));
}

TEST_CASE("a run that was killed before it committed anything begins anew with --resume", "[run]") {
  const Folder folder;
  { const RunDirectory made(folder.path, Start::create); }
  CHECK_FALSE(RunDirectory(folder.path, Start::resume).resumed());
  {
    const RunDirectory begun(folder.path, Start::create);
    begun.write("journal.jsonl", R"({"t_ms":1,"round":null,"event":"start"})" "\n");
    begun.write("journal.chain", "of it\n");
  }
  CHECK_THROWS_AS(RunDirectory(folder.path, Start::create), ConfigError);
  const RunDirectory again(folder.path, Start::resume);
  CHECK_FALSE(again.resumed());
  CHECK_FALSE(fs::exists(again.file("journal.jsonl")));
  CHECK_FALSE(fs::exists(again.file("journal.chain")));
}

TEST_CASE("a run whose checkpoints are gone is not thrown away by --resume", "[run]") {
  const Folder folder;
  {
    const RunDirectory begun(folder.path, Start::create);
    begun.write("journal.jsonl", R"({"t_ms":1,"round":0,"event":"round"})" "\n");
  }
  const RunDirectory again(folder.path, Start::resume);
  CHECK(again.resumed());
  CHECK(fs::exists(again.file("journal.jsonl")));
}

TEST_CASE("no file is opened through a link that somebody has planted", "[run]") {
  const Folder folder;
  fs::create_directories(folder.path);
  const std::string victim = folder.path + ".victim";
  std::ofstream(victim) << "mine";
  for (const char* name : {"lock", "journal.jsonl", "journal.chain", "experiment.yaml.tmp"}) {
    fs::create_symlink(victim, folder.path + '/' + name);
  }
  CHECK_THROWS_AS(RunDirectory(folder.path, Start::create), RunDirectoryError);
  fs::remove(folder.path + "/lock");
  CHECK_THROWS_AS(journal::Journal(folder.path + "/journal.jsonl", {"run", "server", std::nullopt}, [] { return 0; }),
                  RunDirectoryError);
  fs::remove(folder.path + "/journal.jsonl");
  const RunDirectory directory(folder.path, Start::create);
  directory.write("experiment.yaml", "text");
  CHECK_FALSE(fs::is_symlink(directory.file("experiment.yaml")));
  CHECK(fs::file_size(victim) == 4);
  fs::remove(victim);
}

TEST_CASE("there is nothing to resume in a new directory", "[run]") {
  const Folder folder;
  CHECK_THROWS_WITH(RunDirectory(folder.path, Start::resume), Catch::Contains("no run to resume"));
}

TEST_CASE("two generations of checkpoints are kept, the newest whole one is read", "[run]") {
  const Folder folder;
  const RunDirectory directory(folder.path, Start::create);
  CHECK_FALSE(directory.load_checkpoint());
  for (std::int64_t round = 0; round <= 12; ++round) directory.save_checkpoint(round, state(round), {{"part", state(round + 1)}});
  CHECK(directory.load_checkpoint()->state == state(12));
  CHECK(directory.load_checkpoint()->parts == run::Parts{{"part", state(13)}});
  CHECK(std::distance(fs::directory_iterator(directory.file("checkpoint")), {}) == 2);
  flip_a_byte(directory.file("checkpoint/round-00000012"));
  CHECK(directory.load_checkpoint()->state == state(11));
  flip_a_byte(directory.file("checkpoint/round-00000011"));
  CHECK_THROWS_WITH(directory.load_checkpoint(), Catch::Contains("no checkpoint is whole"));
}

TEST_CASE("a write that broke off leaves the old file", "[run]") {
  const Folder folder;
  const RunDirectory directory(folder.path, Start::create);
  directory.save_checkpoint(3, state(3), {});
  std::ofstream(directory.file("checkpoint/round-00000004.tmp")) << "half";
  CHECK(directory.load_checkpoint()->state == state(3));
}

TEST_CASE("ids read as numbers and ranges", "[run]") {
  CHECK(net::parse_ids("3") == std::vector<std::int64_t>{3});
  CHECK(net::parse_ids("0-3,8,2") == std::vector<std::int64_t>{0, 1, 2, 3, 8});
  for (const char* wrong : {"", "a", "3-", "-1", "5-2", "1,,2", "0-99999999999", "1 "}) {
    INFO(wrong);
    CHECK_THROWS_AS(net::parse_ids(wrong), ConfigError);
  }
}
