#include <nlohmann/json.hpp>

#include "config/config.hpp"

namespace fedctl::config {
namespace {

using Json = nlohmann::ordered_json;

Json object_schema(Options& options);

// The kinds of a plugin key: one alternative a kind, each a closed map; or the bare word of a kind.
Json plugin_schema(const Kinds& kinds) {
  Json alternatives = Json::array(), names = Json::array();
  for (const Kind& kind : kinds) {
    Json one = object_schema(*kind.make_options());
    Json properties = {{"kind", {{"const", kind.name}, {"description", kind.summary}}}};
    properties.update(one["properties"]);
    one["properties"] = std::move(properties);
    one["required"].push_back("kind");
    alternatives.push_back(std::move(one));
    names.push_back(kind.name);
  }
  alternatives.push_back({{"enum", std::move(names)}});
  return {{"oneOf", std::move(alternatives)}};
}

class Schema final : public Fields {
 public:
  Json take() {
    Json schema = {{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties_)}};
    schema["required"] = std::move(required_);
    return schema;
  }

  void integer(std::string_view key, std::int64_t& value, Whole range, std::string_view meaning) override {
    Json json = {{"type", "integer"}, {"default", value}};
    if (range.min != std::numeric_limits<std::int64_t>::min()) json["minimum"] = range.min;
    if (range.max != std::numeric_limits<std::int64_t>::max()) json["maximum"] = range.max;
    add(key, std::move(json), meaning);
  }
  void real(std::string_view key, double& value, Range range, std::string_view meaning) override {
    Json json = {{"type", "number"}, {"default", value}};
    if (range.above) json["exclusiveMinimum"] = *range.above;
    if (range.min) json["minimum"] = *range.min;
    if (range.below) json["exclusiveMaximum"] = *range.below;
    if (range.max) json["maximum"] = *range.max;
    add(key, std::move(json), meaning);
  }
  void boolean(std::string_view key, bool& value, std::string_view meaning) override {
    add(key, {{"type", "boolean"}, {"default", value}}, meaning);
  }
  void text(std::string_view key, std::string& value, Text rule, std::string_view meaning) override {
    Json json = {{"type", "string"}};
    if (!rule.one_of.empty()) json["enum"] = rule.one_of;
    if (rule.required) {
      required_.push_back(key);
    } else {
      json["default"] = value;
    }
    add(key, std::move(json), meaning);
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view meaning) override {
    add(key, {{"type", "array"}, {"items", {{"type", "string"}}}, {"default", value}}, meaning);
  }
  void section(std::string_view key, Options& value, std::string_view meaning) override {
    add(key, object_schema(value), meaning);
  }
  void plugin(std::string_view key, Plugin& value, const Kinds& kinds, std::string_view meaning) override {
    if (value.kind.empty()) required_.push_back(key);
    add(key, plugin_schema(kinds), meaning);
  }
  void plugins(std::string_view key, std::vector<Plugin>&, const Kinds& kinds, std::size_t count_max,
               std::string_view meaning) override {
    add(key, {{"type", "array"}, {"maxItems", count_max}, {"items", plugin_schema(kinds)}}, meaning);
  }

 private:
  void add(std::string_view key, Json json, std::string_view meaning) {
    json["description"] = meaning;
    properties_[std::string(key)] = std::move(json);
  }

  Json properties_ = Json::object();
  Json required_ = Json::array();
};

Json object_schema(Options& options) {
  Schema schema;
  options.fields(schema);
  return schema.take();
}

}  // namespace

std::string schema(Options& root, const std::string& title) {
  Json json = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", title}};
  json.update(object_schema(root));
  return json.dump(2) + '\n';
}

}  // namespace fedctl::config
