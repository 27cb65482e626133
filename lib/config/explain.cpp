#include <algorithm>

#include "config/detail/document.hpp"
#include "config/detail/ranges.hpp"

namespace fedctl::config {
namespace {

struct Row {
  std::string key, value, rule, meaning;
  bool given = false;
};

class Explainer final : public Fields {
 public:
  Explainer(const std::map<std::string, std::string>& given, std::vector<Row>& rows, std::string path)
      : given_(given), rows_(rows), path_(std::move(path)) {}

  void integer(std::string_view key, std::int64_t& value, Whole range, std::string_view meaning) override {
    row(key, std::to_string(value), range_text(range), meaning);
  }
  void real(std::string_view key, double& value, Range range, std::string_view meaning) override {
    row(key, real_text(value), range_text(range), meaning);
  }
  void boolean(std::string_view key, bool& value, std::string_view meaning) override {
    row(key, value ? "true" : "false", "true or false", meaning);
  }
  void text(std::string_view key, std::string& value, Text rule, std::string_view meaning) override {
    std::string allowed = rule.kind;
    for (const std::string& word : rule.one_of) allowed += (allowed.empty() ? "" : "|") + word;
    row(key, value.empty() ? "\"\"" : value, allowed, meaning);
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view meaning) override {
    std::string list;
    for (const std::string& word : value) list += (list.empty() ? "" : ", ") + word;
    row(key, '[' + list + ']', "words", meaning);
  }
  void section(std::string_view key, Options& value, std::string_view) override { inside(join_key(path_, key), value); }
  void plugin(std::string_view key, Plugin& value, const Kinds& kinds, std::string_view meaning) override {
    const std::string path = join_key(path_, key);
    std::string allowed;
    for (const std::string& name : names_of(kinds)) allowed += (allowed.empty() ? "" : "|") + name;
    rows_.push_back({path + ".kind", value.kind, allowed, std::string(meaning), given_.contains(path)});
    inside(path, *value.options);
  }
  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds& kinds, std::size_t,
               std::string_view meaning) override {
    const std::string path = join_key(path_, key);
    std::string allowed;
    for (const std::string& name : names_of(kinds)) allowed += (allowed.empty() ? "" : "|") + name;
    rows_.push_back({path, std::to_string(value.size()) + " entries", "list of " + allowed, std::string(meaning),
                     given_.contains(path)});
    for (std::size_t i = 0; i < value.size(); ++i) {
      const std::string item = path + '[' + std::to_string(i) + ']';
      rows_.push_back({item + ".kind", value[i].kind, "", "", true});
      inside(item, *value[i].options);
    }
  }

 private:
  void inside(const std::string& path, Options& value) {
    Explainer inner(given_, rows_, path);
    value.fields(inner);
  }
  void row(std::string_view key, std::string value, std::string rule, std::string_view meaning) {
    const std::string path = join_key(path_, key);
    rows_.push_back({path, std::move(value), std::move(rule), std::string(meaning), given_.contains(path)});
  }

  const std::map<std::string, std::string>& given_;
  std::vector<Row>& rows_;
  std::string path_;
};

std::string padded(const std::string& text, std::size_t width) {
  return text.size() < width ? text + std::string(width - text.size(), ' ') : text;
}

}  // namespace

std::string explain(const Source& source, Options& root) {
  const std::map<std::string, std::string> given = places(source);
  std::vector<Row> rows;
  Explainer explainer(given, rows, "");
  root.fields(explainer);
  std::size_t key_width = 0, value_width = 0;
  for (const Row& row : rows) {
    key_width = std::max(key_width, row.key.size());
    value_width = std::max(value_width, std::min<std::size_t>(row.value.size(), 32));
  }
  std::string out;
  for (const Row& row : rows) {
    out += padded(row.key, key_width) + "  " + padded(row.value, value_width) + "  " +
           (row.given ? "(file)   " : "(default)") + "  " + row.meaning;
    if (!row.rule.empty()) out += (row.meaning.empty() ? "" : "; ") + row.rule;
    out += '\n';
  }
  return out;
}

}  // namespace fedctl::config
