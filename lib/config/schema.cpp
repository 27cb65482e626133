#include <limits>
#include <nlohmann/json.hpp>

#include "config/config.hpp"

namespace fedctl::config {
namespace {

using Json = nlohmann::ordered_json;

// The kinds whose alternatives are being written, innermost last, and where: a plugin whose options
// hold a plugin of the same kinds refers back to them.
struct Open {
  const Kinds* kinds;
  std::string pointer;  // "#/properties/aggregate"
};
using Stack = std::vector<Open>;

Json object_schema(Options& options, const std::string& pointer, Stack& stack);

// One alternative a kind: a closed map; and the bare word of a kind. The default kind needs no
// `kind`.
Json plugin_schema(const Kinds& kinds, const std::string& default_kind, const std::string& pointer,
                   Stack& stack) {
  for (const Open& open : stack) {
    if (open.kinds == &kinds) return {{"$ref", open.pointer}};
  }
  stack.push_back({&kinds, pointer});
  Json alternatives = Json::array(), names = Json::array();
  for (const Kind& kind : kinds) {
    const std::string place = pointer + "/oneOf/" + std::to_string(alternatives.size());
    const Json one = object_schema(*kind.make_options(), place, stack);
    Json closed = {{"type", "object"}, {"additionalProperties", false}};
    closed["properties"]["kind"] = {{"const", kind.name}, {"description", kind.summary}};
    closed["properties"].update(one["properties"]);
    closed["required"] = one["required"];
    if (kind.name != default_kind) closed["required"].push_back("kind");
    alternatives.push_back(std::move(closed));
    names.push_back(kind.name);
  }
  alternatives.push_back({{"enum", std::move(names)}});
  stack.pop_back();
  return {{"oneOf", std::move(alternatives)}};
}

class Schema final : public Fields {
 public:
  Schema(std::string pointer, Stack& stack) : pointer_(std::move(pointer)), stack_(stack) {}

  Json take() {
    return {{"type", "object"},
            {"additionalProperties", false},
            {"properties", std::move(properties_)},
            {"required", std::move(required_)}};
  }

  void integer(std::string_view key, std::int64_t& value, Whole range,
               std::string_view meaning) override {
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
    if (!range.zero.empty()) {
      Json number = {{"type", "number"}};
      for (const auto& [name, bound] : json.items()) {
        if (name != "default") number[name] = bound;
      }
      json = {{"anyOf", Json::array({number, {{"const", range.zero}}})}, {"default", value}};
    }
    add(key, std::move(json), meaning);
  }
  void boolean(std::string_view key, bool& value, std::string_view meaning) override {
    add(key, {{"type", "boolean"}, {"default", value}}, meaning);
  }
  void text(std::string_view key, std::string& value, Text rule,
            std::string_view meaning) override {
    Json json = {{"type", "string"}};
    if (!rule.one_of.empty()) json["enum"] = rule.one_of;
    if (rule.required) {
      json["minLength"] = 1;
      if (value.empty()) required_.push_back(key);
    } else {
      json["default"] = value;
    }
    add(key, std::move(json), meaning);
  }
  void texts(std::string_view key, std::vector<std::string>& value,
             std::string_view meaning) override {
    // Numbers are texts, too: [1, 7].
    add(key,
        {{"type", "array"}, {"items", {{"type", {"string", "number"}}}}, {"default", value}},
        meaning);
  }
  void section(std::string_view key, Options& value, std::string_view meaning) override {
    Json json = object_schema(value, below(key), stack_);
    // A section that needs a key is needed itself; others may stand empty.
    if (!json["required"].empty()) {
      required_.push_back(key);
    } else {
      json["type"] = {"object", "null"};
    }
    add(key, std::move(json), meaning);
  }
  void plugin(std::string_view key, Plugin& value, const Kinds& kinds,
              std::string_view meaning) override {
    Json json = plugin_schema(kinds, value.kind, below(key), stack_);
    if (value.kind.empty()) {
      required_.push_back(key);
    } else {
      json["default"] = {{"kind", value.kind}};
    }
    add(key, std::move(json), meaning);
  }
  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds& kinds,
               std::size_t count_max, std::string_view meaning) override {
    Json chain = Json::array();
    for (const Plugin& item : value) chain.push_back({{"kind", item.kind}});
    // A word or a map is short for a list of it.
    const Json item = plugin_schema(kinds, "", below(key) + "/anyOf/0/items", stack_);
    Json one = plugin_schema(kinds, "", below(key) + "/anyOf/1", stack_);
    add(key,
        {{"anyOf", {{{"type", "array"}, {"maxItems", count_max}, {"items", item}}, std::move(one)}},
         {"default", std::move(chain)}},
        meaning);
  }

 private:
  std::string below(std::string_view key) const {
    return pointer_ + "/properties/" + std::string(key);
  }
  void add(std::string_view key, Json json, std::string_view meaning) {
    json["description"] = meaning;
    properties_[std::string(key)] = std::move(json);
  }

  std::string pointer_;
  Stack& stack_;
  Json properties_ = Json::object();
  Json required_ = Json::array();
};

Json object_schema(Options& options, const std::string& pointer, Stack& stack) {
  Schema schema(pointer, stack);
  options.fields(schema);
  return schema.take();
}

}  // namespace

std::string schema(Options& root, const std::string& title) {
  Stack stack;
  Json json = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", title}};
  json.update(object_schema(root, "#", stack));
  return json.dump(2) + '\n';
}

}  // namespace fedctl::config
