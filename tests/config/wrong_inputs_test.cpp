// One table of files that are refused: what is wrong, where, and what to do about it.
#include <catch2/catch.hpp>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/test_options.hpp"

using namespace fedctl;
using namespace std::string_literals;

namespace {

struct Wrong {
  std::string yaml;
  std::string message;  // how it begins
  std::string hint;     // part of it; "" expects an empty one
  std::vector<std::string> overrides = {};
};

std::string repeated(const std::string& text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all += text;
  return all;
}

std::string indented_maps(std::size_t depth) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += std::string(i, ' ') + "a:\n";
  return text;
}

void check_refused(const Wrong& wrong) {
  CAPTURE(wrong.yaml.substr(0, 200), wrong.overrides);
  test::Root root;
  try {
    config::Source source{wrong.yaml, "f.yaml", {}};
    for (const std::string& text : wrong.overrides) {
      source.overrides.push_back(config::parse_override(text));
    }
    config::read(source, root);
  } catch (const ConfigError& error) {
    const std::string what = error.what();
    CHECK(what.substr(0, wrong.message.size()) == wrong.message);
    CHECK(what.size() < 400);
    CHECK(what.find('\n') == std::string::npos);
    if (wrong.hint.empty()) {
      CHECK(error.hint().empty());
    } else {
      CHECK_THAT(error.hint(), Catch::Matchers::Contains(wrong.hint));
    }
    return;
  }
  FAIL("was accepted");
}

}  // namespace

TEST_CASE("a wrong key or value is refused with place, expectation and hint", "[config][reader]") {
  check_refused(GENERATE(values<Wrong>({
      // Unknown keys.
      {"nmae: a", "f.yaml:1:1: unknown key nmae", "did you mean name?"},
      {"train:\n  epoch: 2", "f.yaml:2:3: unknown key train.epoch", "did you mean epochs?"},
      {"xyzzy: 2", "f.yaml:1:1: unknown key xyzzy", "known here: aggregate, codec, data, log"},
      {"privacy: {dp: 1}", "f.yaml:1:11: unknown key privacy.dp", "no keys here"},
      {"train.epochs: 2", "f.yaml:1:1: unknown key train.epochs", "nest it: train: {epochs: ...}"},
      {"? \"\"\n: 1", "f.yaml:1:3: unknown key ", "known here"},
      {"<<: {name: a}", "f.yaml:1:1: unknown key <<", "known here"},
      {"codec: {up: [{kind: quantize, ratio: 0.1}]}", "f.yaml:1:31: unknown key codec.up[0].ratio",
       "it is an option of kind topk"},
      {"train: {optimizer: {weight_decay: 0}}",
       "f.yaml:1:21: unknown key train.optimizer.weight_decay", "it is an option of kind adamw"},
      // Twice.
      {"seed: 1\nrounds: 2\nseed: 1", "f.yaml:3:1: seed appears twice, first at f.yaml:1:1",
       "remove one"},
      {"codec:\n  up:\n    - {kind: topk}\n    - kind: topk\n      ratio: 1\n      ratio: 1",
       "f.yaml:6:7: codec.up[1].ratio appears twice, first at f.yaml:5:7", "remove one"},
      {"{seed: 1, \"seed\": 1}", "f.yaml:1:11: seed appears twice, first at f.yaml:1:2", "remove"},
      // Integers.
      {"rounds: 1.5", "f.yaml:1:9: rounds is 1.5, must be an integer", ""},
      {"rounds: 1e3", "f.yaml:1:9: rounds is 1e3, must be an integer", "write 1000"},
      {"rounds: '12'", "f.yaml:1:9: rounds is \"12\", must be an integer", "write 12"},
      {"rounds: 0x10", "f.yaml:1:9: rounds is 0x10, must be an integer", ""},
      {"rounds: 1_000", "f.yaml:1:9: rounds is 1_000, must be an integer", ""},
      {"rounds: 1001", "f.yaml:1:9: rounds is 1001, must be in [1, 1000]", ""},
      {"seed: -1", "f.yaml:1:7: seed is -1, must be at least 0", ""},
      {"rounds: 9223372036854775808",
       "f.yaml:1:9: rounds is 9223372036854775808, must be in [1, 1000]", ""},
      {"offset: 9223372036854775808", "f.yaml:1:9: offset is 9223372036854775808, must fit 64 bits",
       ""},
      {"rounds: [1]", "f.yaml:1:9: rounds is a list, must be an integer", ""},
      {"rounds: {a: 1}", "f.yaml:1:9: rounds is a map, must be an integer", ""},
      {"name: a\nrounds:\nseed: 1", "f.yaml:2:1: rounds has no value, must be an integer",
       "remove the key"},
      {"rounds: ~", "f.yaml:1:1: rounds has no value, must be an integer", "remove the key"},
      // Reals.
      {"codec:\n  up: [{kind: topk, ratio: 1.7}]",
       "f.yaml:2:28: codec.up[0].ratio is 1.7, must be in (0, 1]", ""},
      {"train: {optimizer: {momentum: 1}}",
       "f.yaml:1:31: train.optimizer.momentum is 1, must be in [0, 1)", ""},
      {"train: {optimizer: {lr: 0}}", "f.yaml:1:25: train.optimizer.lr is 0, must be above 0", ""},
      {"train: {noise: nan}", "f.yaml:1:16: train.noise is nan, must be a finite number", ""},
      {"train: {noise: .inf}", "f.yaml:1:16: train.noise is .inf, must be a finite number", ""},
      {"train: {noise: -infinity}", "f.yaml:1:16: train.noise is -infinity, must be a finite", ""},
      {"train: {noise: 1e999}", "f.yaml:1:16: train.noise is 1e999, must be a finite number", ""},
      {"train: {noise: 1 000}", "f.yaml:1:16: train.noise is 1 000, must be a finite number", ""},
      {"train: {noise: +-1}", "f.yaml:1:16: train.noise is +-1, must be a finite number", ""},
      // Booleans.
      {"log: yes", "f.yaml:1:6: log is yes, must be true or false", "did you mean true?"},
      {"log: OFF", "f.yaml:1:6: log is OFF, must be true or false", "did you mean false?"},
      {"log: 'true'", "f.yaml:1:6: log is \"true\", must be true or false", "did you mean true?"},
      {"log: perhaps", "f.yaml:1:6: log is perhaps, must be true or false", ""},
      // Texts.
      {"codec: {feedback: ef22}",
       "f.yaml:1:19: codec.feedback is ef22, must be one of none, ef14, ef21",
       "did you mean ef21?"},
      {"name:", "f.yaml:1:1: name has no value, must be a text", "write \"\""},
      {"name: ''", "f.yaml:1:7: name is \"\", must be [a-z0-9-]", ""},
      {"seed: 1", "f.yaml:1:1: name is missing, must be [a-z0-9-]", "--explain"},
      {"", "f.yaml:1:1: name is missing, must be [a-z0-9-]", "--explain"},
      {"name: a\ndata: {kind: files, path: x, columns: text}",
       "f.yaml:2:39: data.columns is text, must be a list of texts", "[ and ]"},
      {"name: a\ndata: {kind: files, path: x, columns: [a, [b]]}",
       "f.yaml:2:43: data.columns[1] is a list, must be a text", ""},
      // Sections and plugins.
      {"train: 3", "f.yaml:1:8: train is 3, must be a map of keys and values", ""},
      {"name: a", "f.yaml:1:1: data is missing, must be one of glyphs, files", "--explain"},
      {"data: glyph", "f.yaml:1:7: data.kind is glyph, must be one of glyphs, files",
       "did you mean glyphs?"},
      {"data: {kind: [glyphs]}", "f.yaml:1:14: data.kind is a list, must be a word", ""},
      {"data: {hands: 3}", "f.yaml:1:7: data.kind is missing, must be one of glyphs, files", ""},
      {"name: a\ndata: {kind: files}", "f.yaml:2:7: data.path is missing, must be a path",
       "--explain"},
      {"aggregate:", "f.yaml:1:1: aggregate has no value, must be a map with a kind", "mean, clip"},
      {"aggregate: {kind: clip, of: {kind: clip, norm: 0, of: mean}}",
       "f.yaml:1:48: aggregate.of.norm is 0, must be in (0, 1000000)", ""},
      {"codec: {up: {kind: topk, ratio: 2}}", "f.yaml:1:33: codec.up.ratio is 2, must be in",
       ""},
      {"codec: {up: }", "f.yaml:1:9: codec.up has no value, must be a list of maps", "write []"},
      {"codec: {up: [[topk]]}", "f.yaml:1:14: codec.up[0] is a list, must be a map with a kind",
       "float16"},
      {"codec: {up: [topk, topk, topk, topk]}",
       "f.yaml:1:13: codec.up has 4 entries, must be at most 3", ""},
  })));
}

TEST_CASE("a wrong override is refused as strictly as the file", "[config][override]") {
  const std::string file = "name: a\ndata: glyphs\ncodec: {up: [topk]}\n";
  auto wrong = GENERATE(values<Wrong>({
      {"", "--set rounds=0: rounds is 0, must be in [1, 1000]", "", {"rounds=0"}},
      {"",
       "--set train.epoch=3: unknown key train.epoch",
       "did you mean epochs?",
       {"train.epoch=3"}},
      {"",
       "--set codec.up.0.ratio=2: codec.up[0].ratio is 2, must be in (0, 1]",
       "",
       {"codec.up.0.ratio=2"}},
      {"",
       "--set codec.up.2.kind=topk: \"2\" is not an index of a list of 1",
       "1 appends",
       {"codec.up.2.kind=topk"}},
      {"",
       "--set codec.up.-1.kind=topk: \"-1\" is not an index",
       "0 is the first",
       {"codec.up.-1.kind=topk"}},
      {"",
       "--set codec.up.first=topk: \"first\" is not an index",
       "0 is the first",
       {"codec.up.first=topk"}},
      {"",
       "--set codec.up.0.ratio=0.5: unknown key codec.up[0].ratio",
       "kind topk",
       {"codec.up.0.ratio=0.5", "codec.up.0.kind=quantize"}},
      {"", "--set ..=3: is not a key path", "--set train.epochs=2", {"..=3"}},
      {"", "--set train.=3: is not a key path", "--set train.epochs=2", {"train.=3"}},
      {"", "--set rounds=[: not YAML", "not closed", {"rounds=["}},
      {"", "--set rounds=: rounds is \"\", must be an integer", "", {"rounds="}},
      {"", "--set rounds=~: rounds has no value, must be an integer", "remove", {"rounds=~"}},
      {"", "--set rounds.x=1: rounds is a map, must be an integer", "", {"rounds.x=1"}},
      {"", "--set =3: expected key.path=value", "--set train.epochs=2", {"=3"}},
      {"", "--set rounds: expected key.path=value", "--set train.epochs=2", {"rounds"}},
  }));
  wrong.yaml = file;
  check_refused(wrong);
}

TEST_CASE("hostile YAML is refused before it grows", "[config][reader][hostile]") {
  const std::string bomb =
      "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
      "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n";
  const std::string large(limits::kYamlBytesMax + 1, ' ');
  check_refused(GENERATE_COPY(values<Wrong>({
      {bomb, "f.yaml:1:4: anchors are not allowed", "write the value out"},
      {"a: *b", "f.yaml:1:4: not YAML: the referenced anchor is not defined", "needs quotes"},
      {"a: !!int 5", "f.yaml:1:4: tags are not allowed", ""},
      {"a: !foo {b: 1}", "f.yaml:1:4: tags are not allowed", ""},
      {large, "f.yaml: has 1048577 bytes, must be at most 1048576", ""},
      {repeated("[", 10'000), "f.yaml:1:17: nested deeper than 32 levels", ""},
      {repeated("{a: ", 10'000), "f.yaml:1:125: nested deeper than 32 levels", ""},
      {repeated("- ", 10'000), "f.yaml:1:65: nested deeper than 32 levels", ""},
      {repeated("? ", 10'000), "f.yaml:1:65: nested deeper than 32 levels", ""},
      {repeated("[? ", 10'000), "f.yaml:1:47: nested deeper than 32 levels", ""},
      {indented_maps(1'000), "f.yaml:33:33: nested deeper than 32 levels", ""},
      {"a: [" + repeated("1, ", 50'000) + "]", "f.yaml:1:59996: more than 20000 values", ""},
      {repeated("x", 129) + ": 1", "f.yaml:1:1: a key of 129 bytes, must be at most 128", ""},
      {"[a]: 1", "f.yaml:1:1: a key must be a word", ""},
      {"{{a: 1}: 2}", "f.yaml:1:2: a key must be a word", ""},
      {"{b: {{a: 1, a: 2}: 3}}", "f.yaml:1:13: b.?.a appears twice, first at f.yaml:1:7", "one"},
      {"~: 1", "f.yaml:1:1: a key must be a word", ""},
      {"a: 1\n---\nb: 2", "f.yaml:2:1: a second document", "without ---"},
      {"- a", "f.yaml:1:1: not a map of keys and values", "space behind each colon"},
      {"seed:1", "f.yaml:1:1: not a map of keys and values", "space behind each colon"},
      {"name: \"a\0b\""s, "f.yaml:1:9: control character 0", "is this a YAML file?"},
      {"name: \"a\\0b\"", "f.yaml:1:7: an escape makes a character that is not allowed",
       "no control"},
      {"name: \"\\x1b[2J\"", "f.yaml:1:7: an escape makes a character that is not allowed",
       "no control"},
      {"name: \"a\\_b\"", "f.yaml:1:7: an escape makes a character", "hard space is \\u00a0"},
      {"name: \"a\\Nb\"", "f.yaml:1:7: an escape makes a character", "no control"},
      {"name: a\x1b[2J", "f.yaml:1:8: control character 27", "is this a YAML file?"},
      {"name: a\rseed: 1", "f.yaml:1:8: control character 13", "is this a YAML file?"},
      {"a: 1\n\tb: 2", "f.yaml:2:1: tab in the indentation", "indent with spaces"},
      {"a:\n  \tb: 2", "f.yaml:2:3: tab in the indentation", "indent with spaces"},
      {"a: \xff", "f.yaml:1:4: is not UTF-8", "save the file as UTF-8"},
      {"a: \xc0\x80", "f.yaml:1:4: is not UTF-8", "save the file as UTF-8"},
      {"a: \xed\xa0\x80", "f.yaml:1:4: is not UTF-8", "save the file as UTF-8"},
      {"a: \xf4\x90\x80\x80", "f.yaml:1:4: is not UTF-8", "save the file as UTF-8"},
      {"a: \xe2\x82", "f.yaml:1:4: is not UTF-8", "save the file as UTF-8"},
      {"\xff\xfe"
       "a\0"s,
       "f.yaml:1:1: is not UTF-8", "save the file as UTF-8"},
      {"name: 'a\nseed: 1\n", "f.yaml:4:", "a quote is not closed"},
      {"name: \"a\n", "f.yaml:3:", "a quote is not closed"},
      {"codec: {up: [", "f.yaml:2:", "a [ or { is not closed"},
      {"a: b: c", "f.yaml:1:5: not YAML", "needs quotes"},
      {"a: \"\\q\"", "f.yaml:1:7: not YAML: unknown escape", "needs quotes"},
      {"%YAML 9.9\n---\na: 1", "f.yaml:", "needs quotes"},
  })));
}

TEST_CASE("what a message quotes from outside is short and printable", "[config][hostile]") {
  const std::string word = repeated("\u00e9", 1'000);
  test::Root root;
  try {
    config::read({"rounds: \"" + word + "\\n\"", "f.yaml", {}}, root);
    FAIL("was accepted");
  } catch (const ConfigError& error) {
    CHECK(error.what() ==
          "f.yaml:1:9: rounds is \"" + repeated("\u00e9", 30) + "...\", must be an integer");
  }
}
