#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "base/errors.hpp"
#include "config/detail/key_collector.hpp"
#include "config/detail/words.hpp"
#include "config/document.hpp"

namespace fedctl::config {
namespace {

// "12", "-.5", "+1e3" as a T, if that is all there is; YAML 1.2, decimal.
template <class T>
std::optional<T> as_number(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_whole(std::string_view text) {
  if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// What a reader of YAML 1.1 would have taken for a truth value.
std::string meant_boolean(std::string word) {
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool yes = word == "true" || word == "yes" || word == "on" || word == "1";
  const bool no = word == "false" || word == "no" || word == "off" || word == "0";
  return yes ? "did you mean true?" : no ? "did you mean false?" : "";
}

// Fills one options struct from one map; remembers which keys were asked for: the rest are errors.
class Reader final : public Fields {
 public:
  // `kinds` are those that the map's `kind` is chosen from, nullptr for a section.
  Reader(const Node& map, std::string path, const Kinds* kinds)
      : map_(map), path_(std::move(path)), kinds_(kinds) {
    if (kinds != nullptr) known_.insert("kind");
  }

  void integer(std::string_view key, std::int64_t& value, Whole range, std::string_view) override {
    const Node* node = scalar(key, "an integer");
    if (node == nullptr) return;
    const std::string& text = node->scalar;
    if (node->quoted || !is_whole(text)) {
      const std::optional<double> real = as_number<double>(text);
      const bool spelling = real && *real == std::trunc(*real) && std::abs(*real) < 1e15;
      wrong(*node, join_key(path_, key), "must be an integer",
            spelling ? "write " + std::to_string(static_cast<std::int64_t>(*real)) : "");
    }
    const std::optional<std::int64_t> parsed = as_number<std::int64_t>(text);
    if (!parsed || *parsed < range.min || *parsed > range.max) {
      const Whole any;
      const bool open = range.min == any.min && range.max == any.max;
      wrong(*node, join_key(path_, key),
            open ? "must fit 64 bits" : "must be " + range_text(range));
    }
    value = *parsed;
  }

  void real(std::string_view key, double& value, Range range, std::string_view) override {
    const Node* node = scalar(key, "a number");
    if (node == nullptr) return;
    if (!range.zero.empty() && node->scalar == range.zero) {
      value = 0;
      return;
    }
    const std::optional<double> parsed = as_number<double>(node->scalar);
    if (node->quoted || !parsed || !std::isfinite(*parsed)) {
      wrong(*node, join_key(path_, key), "must be a finite number");
    }
    if (!contains(range, *parsed)) {
      wrong(*node, join_key(path_, key), "must be " + range_text(range));
    }
    value = *parsed;
  }

  void boolean(std::string_view key, bool& value, std::string_view) override {
    const Node* node = scalar(key, "true or false");
    if (node == nullptr) return;
    if (node->quoted || (node->scalar != "true" && node->scalar != "false")) {
      wrong(*node, join_key(path_, key), "must be true or false", meant_boolean(node->scalar));
    }
    value = node->scalar == "true";
  }

  void text(std::string_view key, std::string& value, Text rule, std::string_view) override {
    const Node* node = scalar(key, "a text", "write \"\" for an empty text");
    if (node == nullptr) {
      if (rule.required && value.empty()) missing(key, rule.kind);
      return;
    }
    if (!rule.one_of.empty()) check_one_of(*node, join_key(path_, key), rule.one_of);
    if (rule.required && node->scalar.empty()) {
      wrong(*node, join_key(path_, key), "must be " + (rule.kind.empty() ? "a text" : rule.kind));
    }
    value = node->scalar;
  }

  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    const Node* node = list(key, "a list of texts");
    if (node == nullptr) return;
    std::vector<std::string> words;
    for (std::size_t i = 0; i < node->children.size(); ++i) {
      const Node& item = node->children[i];
      if (item.type != Node::Type::scalar) {
        wrong(item, join_index(join_key(path_, key), i), "must be a text");
      }
      words.push_back(item.scalar);
    }
    value = std::move(words);
  }

  void section(std::string_view key, Options& value, std::string_view) override {
    const Node* node = find(key);
    const std::string path = join_key(path_, key);
    // A section whose keys are all commented out; keys that are required are so all the same.
    const Node none{Node::Type::map, node == nullptr ? map_.place : node->place};
    if (node == nullptr || node->type == Node::Type::null) node = &none;
    if (node->type != Node::Type::map) wrong(*node, path, "must be a map of keys and values");
    Reader(*node, path, nullptr).fill(value);
  }

  void plugin(std::string_view key, Plugin& value, const Kinds& kinds, std::string_view) override {
    const Node* node = find(key);
    if (node != nullptr) {
      value = read_plugin(*node, join_key(path_, key), value.kind, kinds);
    } else if (value.kind.empty()) {
      missing(key, "one of " + join(names_of(kinds)));
    }
  }

  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds& kinds,
               std::size_t count_max, std::string_view) override {
    const std::string path = join_key(path_, key);
    const Node* one = find(key);  // a word or a map is short for a list of it
    if (one != nullptr && (one->type == Node::Type::scalar || one->type == Node::Type::map)) {
      value.clear();
      value.push_back(read_plugin(*one, path, "", kinds));
      return;
    }
    const Node* node = list(key, "a list of maps, each with a kind");
    if (node == nullptr) return;
    if (node->children.size() > count_max) {
      fail(node->place, path + " has " + std::to_string(node->children.size()) +
                            " entries, must be at most " + std::to_string(count_max));
    }
    std::vector<Plugin> read;
    for (std::size_t i = 0; i < node->children.size(); ++i) {
      read.push_back(read_plugin(node->children[i], join_index(path, i), "", kinds));
    }
    value = std::move(read);
  }

  // Every key of the options, then an error for one that is left over or missing. Left-over first:
  // often it is the missing one, misspelt.
  void fill(Options& options) {
    options.fields(*this);
    for (const Node& child : map_.children) {
      if (!known_.contains(child.key)) unknown(child);
    }
    if (missing_) throw *missing_;
  }

 private:
  const Node* find(std::string_view key) {
    known_.emplace(key);
    return map_.find(key);
  }
  const Node* scalar(std::string_view key, const std::string& expected,
                     const std::string& if_empty = "remove the key to keep its default") {
    const Node* node = find(key);
    if (node == nullptr || node->type == Node::Type::scalar) return node;
    wrong(*node, join_key(path_, key), "must be " + expected,
          node->type == Node::Type::null ? if_empty : "");
  }
  const Node* list(std::string_view key, const std::string& expected) {
    const Node* node = find(key);
    if (node == nullptr || node->type == Node::Type::list) return node;
    wrong(*node, join_key(path_, key), "must be " + expected,
          node->type == Node::Type::null ? "write [] for an empty list"
                                         : "a list of one stands in [ and ]");
  }

  static Plugin read_plugin(const Node& node, const std::string& path,
                            const std::string& default_kind, const Kinds& kinds) {
    const std::vector<std::string> names = names_of(kinds);
    const bool word = node.type == Node::Type::scalar;
    if (!word && node.type != Node::Type::map) {
      wrong(node, path, "must be a map with a kind", "one of " + join(names));
    }
    const Node* kind = word ? &node : node.find("kind");
    if (kind == nullptr && default_kind.empty()) {
      fail(node.place, path + ".kind is missing, must be one of " + join(names));
    }
    if (kind != nullptr) {
      if (kind->type != Node::Type::scalar) wrong(*kind, path + ".kind", "must be a word");
      check_one_of(*kind, path + ".kind", names);
    }
    Plugin plugin = make_plugin(kinds, kind != nullptr ? kind->scalar : default_kind);
    plugin.place = node.place;
    const Node none{Node::Type::map, node.place};
    Reader(word ? none : node, path, &kinds).fill(*plugin.options);
    return plugin;
  }

  static void check_one_of(const Node& node, const std::string& key,
                           const std::vector<std::string>& words) {
    if (std::ranges::find(words, node.scalar) != words.end()) return;
    wrong(node, key, "must be one of " + join(words), did_you_mean(node.scalar, words));
  }

  [[noreturn]] static void wrong(const Node& node, const std::string& key,
                                 const std::string& expected, const std::string& hint = "") {
    std::string is;
    switch (node.type) {
      case Node::Type::null:
        is = "has no value";
        break;
      case Node::Type::list:
        is = "is a list";
        break;
      case Node::Type::map:
        is = "is a map";
        break;
      case Node::Type::scalar:
        is = "is " + (node.quoted ? '"' + shown(node.scalar) + '"' : shown(node.scalar));
    }
    fail(node.place, key + ' ' + is + ", " + expected, hint);
  }

  void missing(std::string_view key, const std::string& expected) {
    if (missing_) return;
    missing_.emplace(map_.place + ": " + join_key(path_, key) + " is missing" +
                         (expected.empty() ? "" : ", must be " + expected),
                     "fedctl check --explain lists every key");
  }

  [[noreturn]] void unknown(const Node& child) const {
    const std::vector<std::string> known(known_.begin(), known_.end());
    std::string hint = owners_hint(child.key);
    const std::string first = child.key.substr(0, child.key.find('.'));
    if (hint.empty() && first != child.key && known_.contains(first)) {
      hint = "nest it: " + first + ": {" + shown(child.key.substr(first.size() + 1)) + ": ...}";
    }
    if (hint.empty()) hint = did_you_mean(child.key, known);
    if (hint.empty()) hint = known.empty() ? "no keys here" : "known here: " + join(known);
    fail(child.key_place, "unknown key " + join_key(path_, shown(child.key)), hint);
  }
  // For an option that other kinds have: it was left behind when the kind was changed.
  std::string owners_hint(const std::string& key) const {
    std::vector<std::string> owners;
    for (const Kind& kind : kinds_ == nullptr ? Kinds{} : *kinds_) {
      if (keys_of(*kind.make_options()).contains(key)) owners.push_back(kind.name);
    }
    return owners.empty() ? "" : "it is an option of kind " + join(owners, " and ");
  }

  const Node& map_;
  std::string path_;
  const Kinds* kinds_;
  std::set<std::string> known_;
  std::optional<ConfigError> missing_;
};

}  // namespace

void read(const Node& document, Options& root) { Reader(document, "", nullptr).fill(root); }

void read(const Source& source, Options& root) { read(load(source), root); }

}  // namespace fedctl::config
