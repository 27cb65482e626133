#include "config/detail/characters.hpp"

#include "base/legible.hpp"
#include "base/limits.hpp"

namespace fedctl::config {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

}  // namespace

bool is_text(std::string_view value) {
  while (!value.empty()) {
    const std::size_t bytes = sequence_bytes(value);
    const char c = value.front();
    if (bytes == 0 || (is_control(c) && c != '\n' && c != '\t')) return false;
    value.remove_prefix(bytes);
  }
  return true;
}

void check_characters(std::string_view text, const Origin& origin) {
  if (text.size() > limits::kYamlBytesMax) {
    fail(origin.name, "has " + std::to_string(text.size()) + " bytes, must be at most " +
                          std::to_string(limits::kYamlBytesMax));
  }
  std::size_t line = 1, line_start = 0;
  bool indentation = true;
  for (std::size_t at = 0; at < text.size();) {
    const auto place = [&] { return origin.at(line, at - line_start + 1); };
    const std::size_t bytes = sequence_bytes(text.substr(at));
    if (bytes == 0) fail(place(), "is not UTF-8", "save the file as UTF-8 text");
    const char c = text[at];
    const bool line_end = c == '\n' || (c == '\r' && at + 1 < text.size() && text[at + 1] == '\n');
    if (c == '\t' && indentation) fail(place(), "tab in the indentation", "indent with spaces");
    if (is_control(c) && c != '\t' && !line_end) {
      fail(place(), "control character " + std::to_string(static_cast<int>(c)),
           "is this a YAML file?");
    }
    at += bytes;
    if (c == '\n') {
      ++line;
      line_start = at;
    }
    indentation = c == '\n' || (indentation && c == ' ');
  }
}

}  // namespace fedctl::config
