#include <algorithm>
#include <array>

#include "config/config.hpp"
#include "config/detail/words.hpp"
#include "config/document.hpp"

namespace fedctl::config {
namespace {

// Key, value, origin, rule, meaning.
using Row = std::array<std::string, 5>;
using Defaults = std::map<std::string, std::string>;  // by key

// Collects one row a key. `given` is the map of the source that holds this level's keys, nullptr if
// there is none.
class Explainer final : public Fields {
 public:
  Explainer(const Node* given, std::string path, const Defaults& defaults, std::vector<Row>& rows)
      : given_(given), path_(std::move(path)), defaults_(defaults), rows_(rows) {}

  void integer(std::string_view key, std::int64_t& value, Whole range,
               std::string_view meaning) override {
    row(key, std::to_string(value), range_text(range), meaning);
  }
  void real(std::string_view key, double& value, Range range, std::string_view meaning) override {
    row(key, real_text(value, range), range_text(range), meaning);
  }
  void boolean(std::string_view key, bool& value, std::string_view meaning) override {
    row(key, value ? "true" : "false", "true or false", meaning);
  }
  void text(std::string_view key, std::string& value, Text rule,
            std::string_view meaning) override {
    const std::string kind = rule.kind.empty() ? "a text" : rule.kind;
    const std::string empty = rule.required ? "" : "\"\"";  // a required text has no default
    row(key, value.empty() ? empty : shown(value),
        rule.one_of.empty() ? kind : join(rule.one_of, "|"), meaning);
  }
  void texts(std::string_view key, std::vector<std::string>& value,
             std::string_view meaning) override {
    row(key, shown('[' + join(value) + ']'), "list of texts", meaning);
  }
  void section(std::string_view key, Options& value, std::string_view) override {
    inside(find(key), join_key(path_, key), value, defaults_);
  }
  void plugin(std::string_view key, Plugin& value, const Kinds& kinds,
              std::string_view meaning) override {
    const Node* node = find(key);
    const std::string path = join_key(path_, key);
    // A bare word is short for {kind: word}.
    const bool word = node != nullptr && node->type == Node::Type::scalar;
    add(path + ".kind", value.kind, word ? node : find_in(node, "kind"), join(names_of(kinds), "|"),
        meaning);
    if (value.options) inside(node, path, *value.options, defaults_of(value, kinds, path));
  }
  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds& kinds,
               std::size_t count_max, std::string_view meaning) override {
    const Node* node = find(key);
    const std::string path = join_key(path_, key);
    std::vector<std::string> chain;
    for (const Plugin& item : value) chain.push_back(item.kind);
    add(path, '[' + join(chain) + ']', node,
        "list of at most " + std::to_string(count_max) + " of " + join(names_of(kinds), "|"),
        meaning);
    for (std::size_t i = 0; i < value.size(); ++i) {
      const bool alone = node != nullptr && node->type != Node::Type::list;
      const bool there = node != nullptr && (alone || i < node->children.size());
      const std::string item = join_index(path, i);
      inside(!there  ? nullptr
             : alone ? node
                     : &node->children[i],
             item, *value[i].options, defaults_of(value[i], kinds, item));
    }
  }

 private:
  static const Node* find_in(const Node* node, std::string_view key) {
    return node == nullptr ? nullptr : node->find(key);
  }
  const Node* find(std::string_view key) const { return find_in(given_, key); }

  void inside(const Node* given, const std::string& path, Options& value,
              const Defaults& defaults) {
    Explainer inner(given, path, defaults, rows_);
    value.fields(inner);
  }
  // Those of the plugin's kind: its options follow the kind in force, not the default one.
  static Defaults defaults_of(const Plugin& value, const Kinds& kinds, const std::string& path) {
    const Plugin fresh = make_plugin(kinds, value.kind);
    std::vector<Row> rows;
    const Defaults none;
    Explainer explainer(nullptr, path, none, rows);
    fresh.options->fields(explainer);
    Defaults defaults;
    for (const Row& row : rows) defaults.emplace(row[0], row[1]);
    return defaults;
  }
  void row(std::string_view key, std::string value, std::string rule, std::string_view meaning) {
    add(join_key(path_, key), std::move(value), find(key), std::move(rule), meaning);
  }
  void add(const std::string& key, std::string value, const Node* node, std::string rule,
           std::string_view meaning) {
    std::string origin = "default";
    if (node != nullptr) origin = node->place.starts_with("--set ") ? "--set" : "file";
    const auto standard = defaults_.find(key);
    if (standard != defaults_.end() && !standard->second.empty() && standard->second != value) {
      origin += ", default " + standard->second;
    }
    rows_.push_back(
        {key, std::move(value), '(' + origin + ')', std::move(rule), std::string(meaning)});
  }

  const Node* given_;
  std::string path_;
  const Defaults& defaults_;
  std::vector<Row>& rows_;
};

std::string table(const std::vector<Row>& rows) {
  constexpr std::size_t kWidthMax = 32;  // a longer cell pushes the rest of its own line only
  std::array<std::size_t, std::tuple_size_v<Row>> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i == 0 || row[i].size() <= kWidthMax) widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string out;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      const std::size_t pad = row[i].size() < widths[i] ? widths[i] - row[i].size() : 0;
      out += row[i] + std::string(pad + 2, ' ');
    }
    out += row.back() + '\n';
  }
  return out;
}

std::string explained(const Source& source, Options& root, const Defaults& defaults) {
  const Node given = load(source);
  std::vector<Row> rows;
  Explainer explainer(&given, "", defaults, rows);
  root.fields(explainer);
  return table(rows);
}

}  // namespace

std::string explain(const Source& source, Options& root) { return explained(source, root, {}); }

std::string explain(const Source& source, Options& root, Options& defaults) {
  return explained(source, root, values(defaults));
}

std::map<std::string, std::string> values(Options& root) {
  std::vector<Row> rows;
  const Defaults none;
  Explainer explainer(nullptr, "", none, rows);
  root.fields(explainer);
  std::map<std::string, std::string> values;
  for (const Row& row : rows) values.emplace(row[0], row[1]);
  return values;
}

}  // namespace fedctl::config
