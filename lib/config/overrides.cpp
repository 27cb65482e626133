#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/detail/words.hpp"
#include "config/document.hpp"

namespace fedctl::config {
namespace {

std::optional<std::size_t> as_index(std::string_view part) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (error != std::errc{} || end != part.data() + part.size()) return std::nullopt;
  return index;
}

Node& add_child(Node& map, const std::string& key, Node value, const std::string& place) {
  value.key = key;
  value.key_place = place;
  map.children.push_back(std::move(value));
  return map.children.back();
}

// One step of an override's path; what is not there is made: a list for an index, else a map.
Node& descend(Node& node, const std::string& part, const std::string& place) {
  const std::optional<std::size_t> index = as_index(part);
  if (node.type == Node::Type::null) {
    node.type = index ? Node::Type::list : Node::Type::map;
    node.place = place;
  } else if (node.type == Node::Type::scalar) {
    // A bare word is short for {kind: word}.
    Node word = node;
    node.type = Node::Type::map;
    add_child(node, "kind", std::move(word), node.place);
  }
  if (node.type == Node::Type::list) {
    const std::size_t count = node.children.size();
    if (!index || *index > count) {
      fail(place, "\"" + shown(part) + "\" is not an index of a list of " + std::to_string(count),
           "0 is the first, " + std::to_string(count) + " appends");
    }
    if (*index == count) node.children.push_back({Node::Type::null, place});
    return node.children[*index];
  }
  if (Node* found = node.find(part)) return *found;
  return add_child(node, part, {Node::Type::null, place}, place);
}

// The new value stands where the old one stood, under its key.
void replace(Node& node, Node value) {
  value.key = node.key;
  value.key_place = value.place;
  node = std::move(value);
}

}  // namespace

std::string override_place(const std::string& path, const std::string& value) {
  return "--set " + shown(path) + '=' + shown(value);
}

void apply_override(Node& root, const std::string& path, const std::string& value) {
  const std::string place = override_place(path, value);
  Node given = parse(value, {place, false});
  // What a shell leaves of --set model.path="" is the empty text.
  if (value.empty()) given = {Node::Type::scalar, place, "", true};
  if (given.place.empty()) given.place = place;  // a comment, say
  Node* at = &root;
  std::size_t depth = 0;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find('.', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || ++depth > limits::kYamlDepthMax) {
      fail(place, "is not a key path", "for example --set train.epochs=2");
    }
    at = &descend(*at, part, place);
    start = end + 1;
  }
  replace(*at, std::move(given));
}

std::pair<std::string, std::string> parse_override(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw ConfigError("--set " + shown(argument) + ": expected key.path=value",
                      "for example --set train.epochs=2");
  }
  return {argument.substr(0, equals), argument.substr(equals + 1)};
}

std::vector<std::pair<std::string, std::string>> environment_overrides(char** environment) {
  constexpr std::string_view kPrefix = "FEDCTL_", kNest = "__";
  std::vector<std::pair<std::string, std::string>> overrides;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    const std::size_t equals = entry.find('=');
    if (!entry.starts_with(kPrefix) || equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(0, equals).substr(kPrefix.size());
    if (name.find(kNest) == std::string_view::npos) continue;  // FEDCTL_DATA and the like
    std::string path;
    for (std::size_t i = 0; i < name.size(); ++i) {
      const bool nest = name.substr(i, kNest.size()) == kNest;
      path += nest ? '.' : static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
      if (nest) ++i;
    }
    overrides.emplace_back(std::move(path), std::string(entry.substr(equals + 1)));
  }
  // The environment has no order of its own; sorted, CODEC__UP comes before CODEC__UP__0__BITS.
  std::ranges::sort(overrides);
  return overrides;
}

}  // namespace fedctl::config
