#include <algorithm>
#include <cctype>

#include "config/detail/words.hpp"
#include "config/document.hpp"

namespace fedctl::config {
namespace {

// Whether a bare word means the same within [ and ] as it did where it stood.
bool is_safe(const std::string& text) {
  const auto is_alnum = [](unsigned char c) { return std::isalnum(c) != 0; };
  return std::ranges::any_of(text, is_alnum) && std::ranges::all_of(text, [&](unsigned char c) {
           return is_alnum(c) || c == '_' || c == '-' || c == '+' || c == '.' || c == '/';
         });
}

std::string scalar_text(const Node& node) {
  return node.quoted || !is_safe(node.scalar) ? in_quotes(node.scalar) : node.scalar;
}

}  // namespace

std::string flow_text(const Node& node) {
  if (node.type == Node::Type::null) return "null";
  if (node.type == Node::Type::scalar) return scalar_text(node);
  const bool map = node.type == Node::Type::map;
  std::vector<std::string> items;
  for (const Node& child : node.children) {
    const std::string key = !map ? "" : is_safe(child.key) ? child.key : in_quotes(child.key);
    items.push_back(map ? key + ": " + flow_text(child) : flow_text(child));
  }
  return map ? '{' + join(items) + '}' : '[' + join(items) + ']';
}

}  // namespace fedctl::config
