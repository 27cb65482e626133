#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/test_options.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

using Overrides = std::vector<std::pair<std::string, std::string>>;

test::Root read(const std::string& yaml, const Overrides& overrides = {}) {
  test::Root root;
  config::read({"name: a\ndata: glyphs\n" + yaml, "f.yaml", overrides}, root);
  return root;
}

// Only optional keys, so that an empty file is legal.
struct Small final : config::Options {
  std::int64_t count = 3;
  double share = 0.5;
  std::string word = "x";
  void fields(config::Fields& f) override {
    f.integer("count", count, {}, "how many");
    f.real("share", share, {}, "how much");
    f.text("word", word, {}, "which");
  }
};

}  // namespace

TEST_CASE("an empty file means all defaults", "[config][reader]") {
  const auto text = GENERATE(as<std::string>{}, "", "\n", "# nothing\n", "---\n", "~", "{}",
                             "---\n...\n", "\xef\xbb\xbf");
  Small small;
  config::read({text, "f.yaml", {}}, small);
  CHECK(small.count == 3);
  CHECK(small.share == 0.5);
  CHECK(small.word == "x");
}

TEST_CASE("values are read as written", "[config][reader]") {
  const test::Root root = read(
      "seed: 9223372036854775807\noffset: -9223372036854775808\nrounds: +7\nlog: true\n"
      "note: 12\n"
      "train: {epochs: 3, noise: -.5e1, optimizer: {kind: adamw, lr: 1e3}}\n"
      "codec:\n  up:\n    - kind: topk\n      ratio: 1\n    - {kind: quantize, bits: 8}\n"
      "  down: []\n  feedback: ef14\n");
  CHECK(root.seed == std::numeric_limits<std::int64_t>::max());
  CHECK(root.offset == std::numeric_limits<std::int64_t>::min());
  CHECK(root.rounds == 7);
  CHECK(root.log);
  CHECK(root.note == "12");
  CHECK(root.train.epochs == 3);
  CHECK(root.train.noise == -5);
  CHECK(root.train.optimizer.kind == "adamw");
  CHECK(root.train.optimizer.as<test::Adamw>().lr == 1000);
  REQUIRE(root.codec.up.size() == 2);
  CHECK(root.codec.up[0].as<test::Topk>().ratio == 1);
  CHECK(root.codec.up[1].as<test::Quantize>().bits == 8);
  CHECK(root.codec.up[1].place == "f.yaml:13:7");
  CHECK(root.codec.down.empty());
  CHECK(root.codec.feedback == "ef14");
}

TEST_CASE("a section without keys keeps its defaults", "[config][reader]") {
  CHECK(read("train:\n  # epochs: 3\nprivacy: {}\n").train.epochs == 1);
}

TEST_CASE("a bare word is short for a map with that kind", "[config][reader][plugin]") {
  const test::Root root = read("aggregate: {kind: clip, of: mean}\ncodec: {up: [topk, float16]}\n");
  CHECK(root.aggregate.as<test::Clip>().of.kind == "mean");
  REQUIRE(root.codec.up.size() == 2);
  CHECK(root.codec.up[0].as<test::Topk>().ratio == 0.05);
}

TEST_CASE("keys without a kind belong to the default kind", "[config][reader][plugin]") {
  const test::Root root = read("train: {optimizer: {momentum: 0.5}}\n");
  CHECK(root.train.optimizer.kind == "sgd");
  CHECK(root.train.optimizer.as<test::Sgd>().momentum == 0.5);
}

TEST_CASE("reading leaves the options of other roots alone", "[config][reader][plugin]") {
  test::Root first;
  test::Root second = first;  // shares the options of its default plugins
  config::read({"{name: a, data: glyphs, train: {optimizer: {lr: 7}}}", "f.yaml", {}}, second);
  CHECK(second.train.optimizer.as<test::Sgd>().lr == 7);
  CHECK(first.train.optimizer.as<test::Sgd>().lr == 0.05);
}

TEST_CASE("overrides follow the file, in order", "[config][override]") {
  const std::string yaml = "rounds: 3\ncodec: {up: [topk, {kind: quantize, bits: 2}]}\n";
  CHECK(read(yaml, {{"rounds", "4"}, {"rounds", "5"}}).rounds == 5);
  CHECK(read(yaml, {{"train.optimizer.lr", "0.5"}}).train.optimizer.as<test::Sgd>().lr == 0.5);
  CHECK(read(yaml, {{"note", ""}}).note.empty());
  CHECK(read("note: x\n", {{"note", ""}}).note.empty());
  CHECK(read(yaml, {{"note", "'a: b'"}}).note == "a: b");
  CHECK(read(yaml, {{"train", "{epochs: 9}"}}).train.epochs == 9);
}

TEST_CASE("overrides reach into lists by index", "[config][override]") {
  const std::string yaml = "codec: {up: [topk, {kind: quantize, bits: 2}]}\n";
  const test::Root changed = read(yaml, {{"codec.up.1.bits", "3"}, {"codec.up.0.ratio", "1"}});
  CHECK(changed.codec.up[0].as<test::Topk>().ratio == 1);
  CHECK(changed.codec.up[1].as<test::Quantize>().bits == 3);

  const test::Root appended = read(yaml, {{"codec.up.2", "float16"}});
  REQUIRE(appended.codec.up.size() == 3);
  CHECK(appended.codec.up[2].kind == "float16");

  const test::Root made = read("", {{"codec.up.0.kind", "quantize"}, {"codec.up.0.bits", "2"}});
  REQUIRE(made.codec.up.size() == 1);
  CHECK(made.codec.up[0].as<test::Quantize>().bits == 2);

  const test::Root whole = read(yaml, {{"codec.up", "[{kind: float16}]"}});
  REQUIRE(whole.codec.up.size() == 1);
  CHECK(whole.codec.up[0].kind == "float16");
  CHECK(whole.codec.up[0].place == "--set codec.up=[{kind: float16}]");
}

TEST_CASE("a word or a map is short for a list of it", "[config][reader]") {
  const test::Root word = read("codec: {up: float16}", {});
  REQUIRE(word.codec.up.size() == 1);
  CHECK(word.codec.up[0].kind == "float16");
  const test::Root map = read("codec: {up: {kind: topk, ratio: 0.5}}", {});
  REQUIRE(map.codec.up.size() == 1);
  CHECK(map.codec.up[0].place == "f.yaml:3:13");
}

TEST_CASE("an override's value may hold an equals sign", "[config][override]") {
  CHECK(config::parse_override("note=a=b") == std::pair<std::string, std::string>("note", "a=b"));
}

TEST_CASE("names in the environment with a double underscore are overrides", "[config][override]") {
  std::vector<std::string> entries = {
      "FEDCTL_SERVER__LISTEN=0.0.0.0:1", "FEDCTL_DATA=/data",
      "FEDCTL_MODULE_DIR=/x__y",         "HOME__X=1",
      "FEDCTL_CODEC__UP__0__BITS=3",     "FEDCTL_CODEC__UP=[quantize]",
      "FEDCTL_TRAIN__BATCH_SIZE=",       "FEDCTL_A__B"};
  std::vector<char*> environment;
  for (std::string& entry : entries) environment.push_back(entry.data());
  environment.push_back(nullptr);
  CHECK(config::environment_overrides(environment.data()) ==
        Overrides{{"codec.up", "[quantize]"},
                  {"codec.up.0.bits", "3"},
                  {"server.listen", "0.0.0.0:1"},
                  {"train.batch_size", ""}});
  CHECK(config::environment_overrides(nullptr).empty());
}

TEST_CASE("places say where a key stood", "[config][places]") {
  const config::Source source{"name: a\ncodec:\n  up:\n    - {kind: topk, ratio: 0.1}\n",
                              "f.yaml",
                              {{"train.epochs", "2"}}};
  const std::map<std::string, std::string> places = config::places(source);
  CHECK(places.at("name") == "f.yaml:1:7");
  CHECK(places.at("codec.up[0].ratio") == "f.yaml:4:27");
  CHECK(places.at("train.epochs") == "--set train.epochs=2");
  CHECK_FALSE(places.contains("rounds"));
}

TEST_CASE("a file is read, or refused by its name", "[config][source]") {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(FEDCTL_BINARY_DIR) / "config_test_files";
  fs::create_directories(folder);
  const std::string path = (folder / "a.yaml").string();
  std::ofstream(path, std::ios::binary) << "name: a\n";
  CHECK(config::read_source(path).text == "name: a\n");
  CHECK(config::read_source(path).name == path);

  const std::string largest(limits::kYamlBytesMax, '\n');
  std::ofstream(path, std::ios::binary) << largest;
  CHECK(config::read_source(path).text == largest);
  std::ofstream(path, std::ios::binary) << largest << '\n';
  CHECK_THROWS_WITH(config::read_source(path), Contains("a.yaml: has more than 1048576 bytes"));

  CHECK_THROWS_WITH(config::read_source((folder / "none.yaml").string()),
                    Contains("none.yaml: no such file"));
  CHECK_THROWS_WITH(config::read_source(folder.string()), Contains("is a folder"));
  fs::remove_all(folder);
}

TEST_CASE("an unknown kind names the known ones and the nearest", "[config][plugin]") {
  try {
    config::make_plugin(test::codec_kinds(), "topq");
    FAIL("was accepted");
  } catch (const ConfigError& error) {
    CHECK(error.what() == std::string("no kind \"topq\", must be one of float16, quantize, topk"));
    CHECK(error.hint() == "did you mean topk?");
  }
  CHECK(config::make_plugin(test::codec_kinds(), "topk").as<test::Topk>().ratio == 0.05);
}

TEST_CASE("the nearest name is the one fewest slips away", "[config][nearest]") {
  const std::vector<std::string> known = {"rounds", "seed", "batch_size", "up", "lr"};
  CHECK(config::nearest("ronuds", known) == "rounds");
  CHECK(config::nearest("batchsize", known) == "batch_size");
  CHECK(config::nearest("sead", known) == "seed");
  CHECK(config::nearest("pu", known) == "up");
  CHECK(config::nearest("xyzzy", known).empty());
  CHECK(config::nearest("q", known).empty());  // not "up" or "lr": nothing of them is in it
  CHECK(config::nearest("", known).empty());
  CHECK(config::nearest(std::string(100'000, 'a'), known).empty());
}
