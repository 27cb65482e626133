// A YAML document as a tree of our own: places kept, duplicate keys refused, size and depth bounded
// while it grows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"

namespace fedctl::config {

// What a text is called in messages.
struct Origin {
  std::string name;      // "configs/a.yaml" or "--set key=value"
  bool numbered = true;  // whether lines and columns are worth telling

  std::string at(std::size_t line, std::size_t column) const;  // both from 1
};

struct Node {
  enum class Type { null, scalar, list, map };

  Type type = Type::null;
  std::string place;  // Origin::at(), of the value
  std::string scalar = {};
  bool quoted = false;              // "12" in quotes is a text, not a number
  std::vector<Node> children = {};  // of a list or a map, in the order of the file
  std::string key = {};             // of a map's child; no two children have the same
  std::string key_place = {};

  const Node* find(std::string_view child_key) const;
  Node* find(std::string_view child_key);
};

// One document, without overrides: null if it holds nothing. Throws ConfigError.
Node parse(std::string_view text, const Origin& origin);

// What messages call a value that was given so: "--set train.optimizer.lr=0.1".
std::string override_place(const std::string& path, const std::string& value);
// Puts one override in its place below `root`, making missing maps. Throws ConfigError.
void apply_override(Node& root, const std::string& path, const std::string& value);

// The source with all overrides applied: always a map. Throws ConfigError.
Node load(const Source& source);

// Fills `root` from a map as read() does from a source. For files with parts that no Options can
// list (a sweep's grid), which are taken out first.
void read(const Node& document, Options& root);

// The node on one line, as --set takes it: reads back as the same values.
std::string flow_text(const Node& node);

[[noreturn]] void fail(const std::string& place, const std::string& what,
                       const std::string& hint = "");

}  // namespace fedctl::config
