#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "base/errors.hpp"
#include "config/detail/document.hpp"
#include "config/detail/ranges.hpp"

namespace fedctl::config {
namespace {

// Fills one options struct from one map; remembers which keys were asked for, so that the rest are errors.
class Reader final : public Fields {
 public:
  Reader(const Node& map, std::string path) : map_(map), path_(std::move(path)) {}

  void integer(std::string_view key, std::int64_t& value, Whole range, std::string_view) override {
    const Node* node = scalar(key, "an integer");
    if (node == nullptr) return;
    std::int64_t parsed = 0;
    const std::string& text = node->scalar;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
    if (node->quoted || error != std::errc{} || end != text.data() + text.size()) {
      wrong(*node, key, text, "must be an integer");
    }
    if (parsed < range.min || parsed > range.max) {
      wrong(*node, key, text, "must be " + range_text(range));
    }
    value = parsed;
  }

  void real(std::string_view key, double& value, Range range, std::string_view) override {
    const Node* node = scalar(key, "a number");
    if (node == nullptr) return;
    double parsed = 0;
    const std::string& text = node->scalar;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
    if (node->quoted || error != std::errc{} || end != text.data() + text.size() || !std::isfinite(parsed)) {
      wrong(*node, key, text, "must be a number");
    }
    if (!contains(range, parsed)) wrong(*node, key, text, "must be " + range_text(range));
    value = parsed;
  }

  void boolean(std::string_view key, bool& value, std::string_view) override {
    const Node* node = scalar(key, "true or false");
    if (node == nullptr) return;
    if (node->quoted || (node->scalar != "true" && node->scalar != "false")) {
      wrong(*node, key, node->scalar, "must be true or false");
    }
    value = node->scalar == "true";
  }

  void text(std::string_view key, std::string& value, Text rule, std::string_view) override {
    const Node* node = scalar(key, "a text");
    if (node == nullptr) {
      if (rule.required && value.empty()) missing(key, rule.kind);
      return;
    }
    if (!rule.one_of.empty() && std::ranges::find(rule.one_of, node->scalar) == rule.one_of.end()) {
      std::string all;
      for (const std::string& word : rule.one_of) all += (all.empty() ? "" : ", ") + word;
      const std::string near = nearest(node->scalar, rule.one_of);
      wrong(*node, key, node->scalar, "must be one of " + all,
            near.empty() ? "" : "did you mean " + near + '?');
    }
    value = node->scalar;
  }

  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    const Node* node = find(key);
    if (node == nullptr) return;
    if (node->type != Node::Type::list) wrong_type(*node, key, "a list of words");
    std::vector<std::string> words;
    for (const Node& item : node->items) {
      if (item.type != Node::Type::scalar) wrong_type(item, key, "a list of words");
      words.push_back(item.scalar);
    }
    value = std::move(words);
  }

  void section(std::string_view key, Options& value, std::string_view) override {
    const Node* node = find(key);
    if (node == nullptr || node->type == Node::Type::null) {
      // Required keys inside are still required.
      static const Node kEmpty{Node::Type::map, "", "", false, {}, {}};
      Reader(kEmpty, join_key(path_, key)).fill(value);
      return;
    }
    if (node->type != Node::Type::map) wrong_type(*node, key, "a map of keys");
    Reader(*node, join_key(path_, key)).fill(value);
  }

  void plugin(std::string_view key, Plugin& value, const Kinds& kinds, std::string_view) override {
    const Node* node = find(key);
    if (node != nullptr && node->type != Node::Type::null) {
      value = read_plugin(*node, join_key(path_, key), value, kinds);
    } else if (value.kind.empty()) {
      missing(key, "a map with a kind");
    }
  }

  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds& kinds,
               std::size_t count_max, std::string_view) override {
    const Node* node = find(key);
    if (node == nullptr || node->type == Node::Type::null) return;
    if (node->type != Node::Type::list) wrong_type(*node, key, "a list of maps, each with a kind");
    if (node->items.size() > count_max) {
      throw ConfigError(node->place + ": " + join_key(path_, key) + " has " +
                        std::to_string(node->items.size()) + " entries, at most " + std::to_string(count_max));
    }
    std::vector<Plugin> list;
    for (std::size_t i = 0; i < node->items.size(); ++i) {
      list.push_back(read_plugin(node->items[i], join_key(path_, key) + '[' + std::to_string(i) + ']', {}, kinds));
    }
    value = std::move(list);
  }

  // Every key of the options, then an error for any that is left over.
  void fill(Options& options) {
    options.fields(*this);
    for (const auto& [key, value] : map_.entries) {
      if (known_.contains(key)) continue;
      const std::string near = nearest(key, {known_.begin(), known_.end()});
      std::string all;
      for (const std::string& name : known_) all += (all.empty() ? "" : ", ") + name;
      throw ConfigError(value.place + ": unknown key " + join_key(path_, key),
                        near.empty() ? "known here: " + all : "did you mean " + near + '?');
    }
  }
  void allow(const std::string& key) { known_.insert(key); }

 private:
  const Node* find(std::string_view key) {
    known_.emplace(key);
    return map_.find(key);
  }
  const Node* scalar(std::string_view key, const char* expected) {
    const Node* node = find(key);
    if (node == nullptr) return nullptr;
    if (node->type == Node::Type::null) return nullptr;
    if (node->type != Node::Type::scalar) wrong_type(*node, key, expected);
    return node;
  }

  static Plugin read_plugin(const Node& node, const std::string& path, const Plugin& otherwise, const Kinds& kinds) {
    const Node* kind = node.type == Node::Type::scalar ? &node : node.find("kind");
    if (node.type != Node::Type::scalar && node.type != Node::Type::map) {
      throw ConfigError(node.place + ": " + path + " must be a map with a kind");
    }
    Plugin plugin = otherwise;
    if (kind != nullptr) {
      if (kind->type != Node::Type::scalar) throw ConfigError(kind->place + ": " + path + ".kind must be a word");
      try {
        plugin = make_plugin(kinds, kind->scalar);
      } catch (const ConfigError& error) {
        throw ConfigError(kind->place + ": " + path + ".kind: " + error.what(), error.hint());
      }
    } else if (plugin.kind.empty()) {
      throw ConfigError(node.place + ": " + path + ".kind is missing", "for example {kind: " + kinds.front().name + '}');
    } else {
      plugin = make_plugin(kinds, plugin.kind);
    }
    plugin.place = node.place;
    static const Node kEmpty{Node::Type::map, "", "", false, {}, {}};
    Reader reader(node.type == Node::Type::map ? node : kEmpty, path);
    reader.allow("kind");
    reader.fill(*plugin.options);
    return plugin;
  }

  [[noreturn]] void wrong(const Node& node, std::string_view key, const std::string& value, const std::string& expected,
                          const std::string& hint = "") const {
    constexpr std::size_t kShown = 60;
    const std::string shown = value.size() <= kShown ? value : value.substr(0, kShown) + "...";
    throw ConfigError(node.place + ": " + join_key(path_, key) + " is " + (node.quoted ? '"' + shown + '"' : shown) +
                          ", " + expected,
                      hint);
  }
  [[noreturn]] void wrong_type(const Node& node, std::string_view key, const char* expected) const {
    throw ConfigError(node.place + ": " + join_key(path_, key) + " must be " + expected);
  }
  [[noreturn]] void missing(std::string_view key, const std::string& expected) const {
    throw ConfigError((map_.place.empty() ? "" : map_.place + ": ") + join_key(path_, key) + " is missing" +
                          (expected.empty() ? "" : ", expected " + expected),
                      "fedctl check --explain lists every key");
  }

  const Node& map_;
  std::string path_;
  std::set<std::string> known_;
};

}  // namespace

void read(const Source& source, Options& root) {
  const Node document = load(source);
  Reader(document, "").fill(root);
}

}  // namespace fedctl::config
