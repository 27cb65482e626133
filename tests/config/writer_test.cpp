// The effective file, `check --explain` and the JSON Schema.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "config/random_options.hpp"
#include "config/test_options.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;
using Json = nlohmann::ordered_json;

namespace {

test::Root read(const std::string& yaml) {
  test::Root root;
  config::read({yaml, "f.yaml", {}}, root);
  return root;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("the effective file holds every key in its shortest form", "[config][writer]") {
  test::Root root = read(
      "name: '1'\ndata: {kind: files, path: a b/c, columns: [text, 'yes', x.y]}\n"
      "train: {noise: 1e5, optimizer: {kind: adamw, lr: 1.0e-7}}\ncodec: {up: [topk], down: []}\n");
  CHECK(config::write(root) ==
        "name: \"1\"\n"
        "note: \"\"\n"
        "seed: 1\n"
        "rounds: 20\n"
        "offset: 0\n"
        "data:\n"
        "  kind: files\n"
        "  path: \"a b/c\"\n"
        "  columns: [text, \"yes\", x.y]\n"
        "train:\n"
        "  epochs: 1\n"
        "  noise: 100000\n"
        "  optimizer:\n"
        "    kind: adamw\n"
        "    lr: 1.0e-07\n"
        "    weight_decay: 0.01\n"
        "aggregate:\n"
        "  kind: mean\n"
        "codec:\n"
        "  up:\n"
        "    - kind: topk\n"
        "      ratio: 0.05\n"
        "  down: []\n"
        "  feedback: none\n"
        "privacy: {}\n"
        "log: false\n");
}

TEST_CASE("reading the effective file gives the same options and the same bytes",
          "[config][writer][property]") {
  const auto seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng = Rng(1).stream("options", seed);
  test::Root root;
  test::Randomizer randomizer(rng);
  root.fields(randomizer);

  const std::string text = config::write(root);
  CAPTURE(text);
  test::Root again = read(text);
  CHECK(config::write(again) == text);
  // The bytes could agree on a wrong value; these types have no other spelling to hide behind.
  CHECK(again.name == root.name);
  CHECK(again.note == root.note);
  CHECK(again.offset == root.offset);
  CHECK(std::memcmp(&again.train.noise, &root.train.noise, sizeof(double)) == 0);
  CHECK(again.codec.up.size() == root.codec.up.size());
}

TEST_CASE("explain shows every key with its value, origin, range and meaning",
          "[config][explain]") {
  const config::Source source{
      "name: a\ndata: glyphs\ntrain:\n  epochs: 3\ncodec: {up: [topk, {kind: quantize, bits: "
      "2}]}\n",
      "f.yaml",
      {{"train.optimizer.lr", "0.5"}}};
  test::Root root, defaults;
  config::read(source, root);
  const std::vector<std::string> lines = lines_of(config::explain(source, root, defaults));

  const auto line_of = [&](const std::string& key) {
    for (const std::string& line : lines) {
      if (line.starts_with(key + ' ')) return line;
    }
    return "no line for " + key;
  };
  CHECK_THAT(line_of("train.epochs"), Contains(" 3 ") && Contains("(file, default 1)") &&
                                          Contains("at least 1") && Contains("passes over"));
  CHECK_THAT(line_of("train.optimizer.lr"), Contains("(--set, default 0.05)"));
  CHECK_THAT(line_of("train.optimizer.kind"), Contains("sgd|adamw") && Contains("(default)"));
  CHECK_THAT(line_of("data.kind"), Contains("(file) ") && Contains("glyphs|files"));
  CHECK_THAT(line_of("data.hands"), Contains("(default)") && Contains("in [1, 1000]"));
  CHECK_THAT(line_of("codec.up"), Contains("[topk, quantize]") && Contains("at most 3"));
  CHECK_THAT(line_of("codec.up[1].bits"), Contains("(file, default 4)"));
  CHECK_THAT(line_of("name"), Contains("(file) "));
  CHECK_THAT(line_of("note"), Contains("\"\"") && Contains("(default)"));

  // Columns: values and origins begin at the same place in every line.
  const std::size_t value = lines[0].find(" a ");
  const std::size_t origin = lines[0].find("(file)");
  for (const std::string& line : lines) {
    CAPTURE(line);
    CHECK(line.at(value) == ' ');
    CHECK(line.at(value + 1) != ' ');
    CHECK(line.at(origin) == '(');
  }
}

TEST_CASE("explain without defaults names only the origin", "[config][explain]") {
  const config::Source source{"{name: a, data: glyphs, rounds: 5}", "f.yaml", {}};
  test::Root root;
  config::read(source, root);
  CHECK_THAT(config::explain(source, root), Contains("(file)") && !Contains("default 20"));
}

TEST_CASE("the schema is closed, and says types, ranges, defaults and meanings",
          "[config][schema]") {
  test::Root root;
  const Json schema = Json::parse(config::schema(root, "a title"));
  CHECK(schema["$schema"] == "https://json-schema.org/draft/2020-12/schema");
  CHECK(schema["title"] == "a title");
  CHECK(schema["type"] == "object");
  CHECK(schema["additionalProperties"] == false);
  CHECK(schema["required"] == Json({"name", "data"}));

  const Json& properties = schema["properties"];
  CHECK(properties.size() == 11);
  CHECK(properties["rounds"] == Json{{"type", "integer"},
                                     {"default", 20},
                                     {"minimum", 1},
                                     {"maximum", 1000},
                                     {"description", "rounds of training"}});
  CHECK(properties["offset"] ==
        Json{{"type", "integer"}, {"default", 0}, {"description", "any integer"}});
  CHECK(properties["name"]["minLength"] == 1);
  CHECK_FALSE(properties["name"].contains("default"));
  CHECK(properties["log"]["type"] == "boolean");
  CHECK(properties["codec"]["type"] == Json({"object", "null"}));
  CHECK(properties["codec"]["properties"]["feedback"]["enum"] == Json({"none", "ef14", "ef21"}));
}

TEST_CASE("a plugin's schema has one closed alternative a kind, and the bare word",
          "[config][schema][plugin]") {
  test::Root root;
  const Json schema = Json::parse(config::schema(root, ""));
  const Json& up = schema["properties"]["codec"]["properties"]["up"];
  CHECK(up["default"] == Json::array());
  REQUIRE(up["anyOf"].size() == 2);
  const Json& list = up["anyOf"][0];
  CHECK(list["type"] == "array");
  CHECK(list["maxItems"] == 3);
  CHECK(list["items"]["oneOf"].size() == up["anyOf"][1]["oneOf"].size());
  const Json& kinds = list["items"]["oneOf"];
  REQUIRE(kinds.size() == 4);
  CHECK(kinds[2]["properties"]["kind"]["const"] == "topk");
  CHECK(kinds[2]["additionalProperties"] == false);
  CHECK(kinds[2]["required"] == Json::array({"kind"}));
  CHECK(kinds[2]["properties"]["ratio"]["exclusiveMinimum"] == 0);
  CHECK(kinds[2]["properties"]["ratio"]["maximum"] == 1);
  CHECK(kinds[3]["enum"] == Json({"float16", "quantize", "topk"}));

  // The default kind may go without `kind`; no other may.
  const Json& optimizer = schema["properties"]["train"]["properties"]["optimizer"];
  CHECK(optimizer["default"] == Json{{"kind", "sgd"}});
  CHECK(optimizer["oneOf"][0]["required"] == Json::array());
  CHECK(optimizer["oneOf"][1]["required"] == Json::array({"kind"}));
  // A required key of a kind.
  CHECK(schema["properties"]["data"]["oneOf"][1]["required"] == Json({"path", "kind"}));
}

TEST_CASE("a plugin that holds one of its own kinds refers back", "[config][schema][plugin]") {
  test::Root root;
  const Json schema = Json::parse(config::schema(root, ""));
  const Json& inner = schema["properties"]["aggregate"]["oneOf"][1]["properties"]["of"];
  REQUIRE(inner["$ref"] == "#/properties/aggregate");
  CHECK(schema.at(Json::json_pointer("/properties/aggregate")).contains("oneOf"));
}
