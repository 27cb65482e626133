// Ranges in words, and reals in their shortest round-trip form.
#pragma once

#include <charconv>
#include <string>

#include "config/fields.hpp"

namespace fedctl::config {

inline std::string real_text(double value) {
  char text[40];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return {text, end};
}

inline bool contains(const Range& range, double value) {
  return !(range.above && value <= *range.above) && !(range.min && value < *range.min) &&
         !(range.below && value >= *range.below) && !(range.max && value > *range.max);
}

inline std::string range_text(const Range& range) {
  const std::string low = range.above ? '(' + real_text(*range.above) : range.min ? '[' + real_text(*range.min) : "";
  const std::string high = range.below ? real_text(*range.below) + ')' : range.max ? real_text(*range.max) + ']' : "";
  if (low.empty() && high.empty()) return "any number";
  if (high.empty()) return (range.above ? "above " + real_text(*range.above) : "at least " + real_text(*range.min));
  if (low.empty()) return (range.below ? "below " + real_text(*range.below) : "at most " + real_text(*range.max));
  return "in " + low + ", " + high;
}

inline std::string range_text(const Whole& range) {
  const bool low = range.min != std::numeric_limits<std::int64_t>::min();
  const bool high = range.max != std::numeric_limits<std::int64_t>::max();
  if (low && high) return "in [" + std::to_string(range.min) + ", " + std::to_string(range.max) + ']';
  if (low) return "at least " + std::to_string(range.min);
  if (high) return "at most " + std::to_string(range.max);
  return "any integer";
}

}  // namespace fedctl::config
