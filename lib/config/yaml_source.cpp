#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/detail/document.hpp"

namespace fedctl::config {
namespace {

constexpr std::size_t kNodesMax = 100'000;
constexpr std::size_t kListMax = 10'000;

[[noreturn]] void fail(const std::string& place, const std::string& what, const std::string& hint = "") {
  throw ConfigError(place + ": " + what, hint);
}

// Builds the tree from parser events, so that size and depth are bounded while it grows. Anchors and aliases are
// refused: nothing in an experiment needs them, and they are how small files become large trees.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(std::string name) : name_(std::move(name)) {}

  Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    no_anchor(mark, anchor);
    add(leaf(mark, Node::Type::null));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(place(mark), "aliases are not allowed", "write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    no_anchor(mark, anchor);
    Node node = leaf(mark, Node::Type::scalar);
    node.scalar = value;
    node.quoted = tag == "!";
    if (!node.quoted && (value.empty() || value == "~" || value == "null")) node.type = Node::Type::null;
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, Node::Type::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, Node::Type::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    std::optional<Node> key;  // read, its value not yet
  };

  std::string place(const YAML::Mark& mark) const {
    return name_ + ':' + std::to_string(mark.line + 1) + ':' + std::to_string(mark.column + 1);
  }
  void no_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) fail(place(mark), "anchors are not allowed", "write the value out");
  }
  Node leaf(const YAML::Mark& mark, Node::Type type) {
    if (++nodes_ > kNodesMax) fail(place(mark), "the file has more than " + std::to_string(kNodesMax) + " values");
    Node node;
    node.type = type;
    node.place = place(mark);
    return node;
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor, Node::Type type) {
    no_anchor(mark, anchor);
    if (open_.size() >= limits::kYamlDepthMax) {
      fail(place(mark), "nested deeper than " + std::to_string(limits::kYamlDepthMax) + " levels");
    }
    open_.push_back({leaf(mark, type), std::nullopt});
  }
  void close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }
  void add(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.type == Node::Type::list) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      if (node.type != Node::Type::scalar) fail(node.place, "a key must be a word");
      if (const Node* twin = parent.node.find(node.scalar)) {
        fail(node.place, "key \"" + node.scalar + "\" appears twice, first at " + twin->place,
             "remove one of them");
      }
      parent.key = std::move(node);
    } else {
      parent.node.entries.emplace_back(parent.key->scalar, std::move(node));
      parent.key.reset();
    }
  }

  std::string name_;
  Node root_;
  std::vector<Open> open_;
  std::size_t nodes_ = 0;
};

// yaml-cpp's own parser recurses once a level: the depth of flow brackets and of indentation is bounded before it sees
// the text. Quoted brackets count too; no sane file comes near.
void check_text(const Source& source) {
  if (source.text.size() > limits::kYamlBytesMax) {
    fail(source.name, "has " + std::to_string(source.text.size()) + " bytes, at most " +
                          std::to_string(limits::kYamlBytesMax) + " are read");
  }
  std::size_t line = 1, depth = 0, dashes = 0;
  for (const char c : source.text) {
    const std::string place = source.name + ':' + std::to_string(line) + ":1";
    if (c == '\0') fail(place, "contains a NUL byte", "is this a YAML file?");
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    // "- - - -" and "? ? ?" nest without brackets.
    if (c == '-' || c == '?' || c == ':') ++dashes;
    if (c == '\n') {
      ++line;
      dashes = 0;
    }
    if (depth > 4 * limits::kYamlDepthMax || dashes > 512) fail(place, "nested too deeply");
  }
}

Node parse(const Source& source) {
  check_text(source);
  std::istringstream in(source.text);
  Builder builder(source.name);
  try {
    YAML::Parser parser(in);
    parser.HandleNextDocument(builder);
    Builder second(source.name);
    if (parser.HandleNextDocument(second)) {
      fail(source.name, "holds several documents", "keep one experiment a file, without ---");
    }
  } catch (const YAML::Exception& error) {
    fail(source.name + ':' + std::to_string(error.mark.line + 1) + ':' +
             std::to_string(error.mark.column + 1),
         "not YAML: " + error.msg);
  }
  return builder.take();
}

std::optional<std::size_t> as_index(std::string_view part) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (error != std::errc{} || end != part.data() + part.size()) return std::nullopt;
  return index;
}

void set_place(Node& node, const std::string& place) {
  node.place = place;
  for (auto& [key, value] : node.entries) set_place(value, place);
  for (Node& item : node.items) set_place(item, place);
}

// The node at one step of an override's path; made if it is not there.
Node& descend(Node& node, const std::string& part, const std::string& place) {
  if (node.type == Node::Type::list) {
    const std::optional<std::size_t> index = as_index(part);
    if (!index || *index > node.items.size() || *index >= kListMax) {
      fail(place, "\"" + part + "\" is not an index of a list of " + std::to_string(node.items.size()));
    }
    if (*index == node.items.size()) node.items.emplace_back();
    return node.items[*index];
  }
  if (node.type == Node::Type::scalar) {
    // A bare word is short for {kind: word}.
    Node kind = node;
    node = Node{Node::Type::map, node.place, "", false, {}, {}};
    node.entries.emplace_back("kind", std::move(kind));
  }
  if (node.type == Node::Type::null) {
    node.type = Node::Type::map;
    node.place = place;
  }
  if (Node* found = node.find(part)) return *found;
  node.entries.emplace_back(part, Node{});
  return node.entries.back().second;
}

void apply(Node& root, const std::string& path, const std::string& value) {
  const std::string place = "--set " + path + '=' + value;
  Node given = parse({value, place, {}});
  set_place(given, place);
  Node* at = &root;
  std::size_t depth = 0;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find('.', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || ++depth > limits::kYamlDepthMax) fail(place, "is not a key path");
    at = &descend(*at, part, place);
    start = end + 1;
  }
  *at = std::move(given);
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}
Node* Node::find(std::string_view key) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(key));
}

std::string join_key(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + '.' + std::string(key);
}

Node load(const Source& source) {
  Node root = parse(source);
  if (root.type == Node::Type::null) {
    root.type = Node::Type::map;
    root.place = source.name + ":1:1";
  }
  if (root.type != Node::Type::map) fail(root.place, "expected keys and values at the top level");
  for (const auto& [path, value] : source.overrides) apply(root, path, value);
  return root;
}

Source read_source(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw ConfigError(path + ": no such file", "--config takes the experiment's YAML file");
  }
  if (std::filesystem::file_size(path, error) > limits::kYamlBytesMax) {
    throw ConfigError(path + ": larger than " + std::to_string(limits::kYamlBytesMax) + " bytes");
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) throw ConfigError(path + ": cannot be read");
  std::ostringstream text;
  text << in.rdbuf();
  return {text.str(), path, {}};
}

std::pair<std::string, std::string> parse_override(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw ConfigError("--set " + argument + ": expected key.path=value", "for example --set train.epochs=2");
  }
  return {argument.substr(0, equals), argument.substr(equals + 1)};
}

std::vector<std::pair<std::string, std::string>> environment_overrides(char** environment) {
  constexpr std::string_view kPrefix = "FEDCTL_";
  std::vector<std::pair<std::string, std::string>> overrides;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    const std::size_t equals = entry.find('=');
    if (!entry.starts_with(kPrefix) || equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(kPrefix.size(), equals - kPrefix.size());
    if (name.find("__") == std::string_view::npos) continue;  // FEDCTL_DATA and the like
    std::string path;
    for (std::size_t i = 0; i < name.size(); ++i) {
      if (name.substr(i, 2) == "__") {
        path += '.';
        ++i;
      } else {
        path += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
      }
    }
    overrides.emplace_back(std::move(path), std::string(entry.substr(equals + 1)));
  }
  return overrides;
}

namespace {

void collect(const Node& node, const std::string& path, std::map<std::string, std::string>& out) {
  if (!path.empty()) out.emplace(path, node.place);
  for (const auto& [key, value] : node.entries) collect(value, join_key(path, key), out);
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    collect(node.items[i], path + '[' + std::to_string(i) + ']', out);
  }
}

}  // namespace

std::map<std::string, std::string> places(const Source& source) {
  std::map<std::string, std::string> out;
  collect(load(source), "", out);
  return out;
}

}  // namespace fedctl::config
