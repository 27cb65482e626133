// How keys, values and ranges are spelled in messages, in the effective file and in `check
// --explain`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/fields.hpp"

namespace fedctl::config {

// "codec.up[0]" + "ratio" -> "codec.up[0].ratio".
std::string join_key(const std::string& path, std::string_view key);
// "codec.up" + 0 -> "codec.up[0]".
std::string join_index(const std::string& path, std::size_t index);

// "a, b, c".
std::string join(const std::vector<std::string>& words, std::string_view separator = ", ");
std::vector<std::string> names_of(const Kinds& kinds);

// Text from outside as a message may print it: on one line, without control characters, at most 60
// bytes and "...".
std::string shown(std::string_view text);

// In double quotes, with YAML's escapes.
std::string in_quotes(std::string_view text);

// The shortest digits that read back as the same number; exponents (1.0e-07) only outside 1e-5 ..
// 1e15.
std::string real_text(double value);
// The same where a word may stand for 0.
std::string real_text(double value, const Range& range);

bool contains(const Range& range, double value);
std::string range_text(const Range& range);  // "in (0, 1]", "at least 0", "a number"
std::string range_text(const Whole& range);  // "in [1, 8]", "at least 1", "an integer"

// "did you mean rounds?", or "" if no known name is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

}  // namespace fedctl::config
