#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/detail/words.hpp"
#include "config/document.hpp"

namespace fedctl::config {
namespace {

void collect(const Node& node, const std::string& path, std::map<std::string, std::string>& out) {
  if (!path.empty()) out.emplace(path, node.place);
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    const Node& child = node.children[i];
    const bool item = node.type == Node::Type::list;
    collect(child, item ? join_index(path, i) : join_key(path, child.key), out);
  }
}

}  // namespace

Source read_source(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw ConfigError(path + ": no such file", "paths are relative to the current directory, " +
                                                   std::filesystem::current_path(error).string());
  }
  if (std::filesystem::is_directory(path, error)) {
    throw ConfigError(path + ": is a folder, must be a YAML file");
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(limits::kYamlBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.eof() && !in.good()) throw ConfigError(path + ": cannot be read", "check permissions");
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > limits::kYamlBytesMax) {
    throw ConfigError(path + ": has more than " + std::to_string(limits::kYamlBytesMax) + " bytes",
                      "is this a YAML file?");
  }
  text.shrink_to_fit();
  return {std::move(text), path, {}};
}

Node load(const Source& source) {
  Node root = parse(source.text, {source.name});
  if (root.type == Node::Type::null) root = {Node::Type::map, source.name + ":1:1"};
  if (root.type != Node::Type::map) {
    fail(root.place, "not a map of keys and values", "put a space behind each colon: \"seed: 1\"");
  }
  for (const auto& [path, value] : source.overrides) apply_override(root, path, value);
  return root;
}

std::map<std::string, std::string> places(const Source& source) {
  std::map<std::string, std::string> out;
  collect(load(source), "", out);
  return out;
}

}  // namespace fedctl::config
