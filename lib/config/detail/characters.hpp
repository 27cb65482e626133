// What a YAML text may consist of, checked before a parser sees it.
#pragma once

#include <string_view>

#include "config/document.hpp"

namespace fedctl::config {

// Throws ConfigError with its place for a text larger than limits::kYamlBytesMax, one that
// is not UTF-8, a control character other than line ends and tabs, and a tab in the indentation.
void check_characters(std::string_view text, const Origin& origin);

// Whether a value, its escapes resolved, is UTF-8 without control characters other than line ends
// and tabs. yaml-cpp makes single bytes of some escapes ("\_", "\N").
bool is_text(std::string_view value);

}  // namespace fedctl::config
