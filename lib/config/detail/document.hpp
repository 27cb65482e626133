// A YAML document as a tree of our own: places kept, duplicate keys refused, size bounded before it is built.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/config.hpp"

namespace fedctl::config {

struct Node {
  enum class Type { null, scalar, list, map };
  Type type = Type::null;
  std::string place;   // "file:line:column" or "--set key=value"
  std::string scalar;
  bool quoted = false;  // "12" in quotes is a text, not a number
  std::vector<std::pair<std::string, Node>> entries;  // map, in file order
  std::vector<Node> items;                            // list

  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
};

// The document with all overrides applied. Throws ConfigError.
Node load(const Source& source);

// "codec.up[0]" + "ratio" -> "codec.up[0].ratio".
std::string join_key(const std::string& path, std::string_view key);
std::vector<std::string> names_of(const Kinds& kinds);

}  // namespace fedctl::config
