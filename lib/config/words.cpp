#include "config/detail/words.hpp"

#include <charconv>
#include <cmath>
#include <limits>

#include "config/config.hpp"

namespace fedctl::config {

std::string join_key(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + '.' + std::string(key);
}

std::string join_index(const std::string& path, std::size_t index) {
  return path + '[' + std::to_string(index) + ']';
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string all;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) all += separator;
    all += words[i];
  }
  return all;
}

std::vector<std::string> names_of(const Kinds& kinds) {
  std::vector<std::string> names;
  for (const Kind& kind : kinds) names.push_back(kind.name);
  return names;
}

std::string shown(std::string_view text) {
  constexpr std::size_t kBytesMax = 60;
  std::size_t size = text.size();
  if (size > kBytesMax) {
    size = kBytesMax;
    // Never inside a UTF-8 sequence.
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  }
  std::string out;
  for (const char c : text.substr(0, size)) {
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    out += control ? (c == '\n' ? ' ' : '?') : c;
  }
  return size < text.size() ? out + "..." : out;
}

std::string in_quotes(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string real_text(double value) {
  constexpr double kPlainMin = 1e-5, kPlainBelow = 1e15;
  const double size = std::abs(value);
  const bool plain = value == 0 || (size >= kPlainMin && size < kPlainBelow);
  char text[64];
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto [end, error] = std::to_chars(text, text + sizeof text, value, format);
  std::string digits(text, end);
  // Readers of YAML 1.1 take 1e-07 for a text; 1.0e-07 is a number to all.
  const std::size_t exponent = digits.find('e');
  if (exponent != std::string::npos && digits.find('.') == std::string::npos) {
    digits.insert(exponent, ".0");
  }
  return digits;
}

bool contains(const Range& range, double value) {
  return !(range.above && value <= *range.above) && !(range.min && value < *range.min) &&
         !(range.below && value >= *range.below) && !(range.max && value > *range.max);
}

std::string real_text(double value, const Range& range) {
  return value == 0 && !range.zero.empty() ? range.zero : real_text(value);
}

std::string range_text(const Range& range) {
  if (!range.zero.empty()) {
    Range numbers = range;
    numbers.zero.clear();
    return range_text(numbers) + ", or " + range.zero;
  }
  const bool low = range.above || range.min;
  const bool high = range.below || range.max;
  if (low && high) {
    return "in " + (range.above ? '(' + real_text(*range.above) : '[' + real_text(*range.min)) +
           ", " + (range.below ? real_text(*range.below) + ')' : real_text(*range.max) + ']');
  }
  if (range.above) return "above " + real_text(*range.above);
  if (range.min) return "at least " + real_text(*range.min);
  if (range.below) return "below " + real_text(*range.below);
  if (range.max) return "at most " + real_text(*range.max);
  return "a number";
}

std::string range_text(const Whole& range) {
  const bool low = range.min != std::numeric_limits<std::int64_t>::min();
  const bool high = range.max != std::numeric_limits<std::int64_t>::max();
  const std::string min = std::to_string(range.min), max = std::to_string(range.max);
  if (low && high) return "in [" + min + ", " + max + ']';
  if (low) return "at least " + min;
  if (high) return "at most " + max;
  return "an integer";
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  return near.empty() ? "" : "did you mean " + near + '?';
}

}  // namespace fedctl::config
