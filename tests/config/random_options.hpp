// Any legal content of any options struct, for property tests.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "base/rng.hpp"
#include "config/fields.hpp"

namespace fedctl::test {

class Randomizer final : public config::Fields {
 public:
  explicit Randomizer(Rng& rng) : rng_(rng) {}

  void integer(std::string_view, std::int64_t& value, config::Whole range,
               std::string_view) override {
    const std::uint64_t count =
        static_cast<std::uint64_t>(range.max) - static_cast<std::uint64_t>(range.min);
    const std::uint64_t steps =
        count == ~std::uint64_t{0} ? rng_.next_u64() : rng_.below(count + 1);
    const std::array<std::int64_t, 3> choices = {
        range.min, range.max,
        static_cast<std::int64_t>(static_cast<std::uint64_t>(range.min) + steps)};
    value = choices[rng_.below(choices.size())];
  }
  // Any bit pattern that is a legal number, or one between the ends.
  void real(std::string_view, double& value, config::Range range, std::string_view) override {
    const double low = range.above.value_or(range.min.value_or(-1e9));
    const double high = range.below.value_or(range.max.value_or(1e9));
    do {
      const std::uint64_t bits = rng_.next_u64();
      std::memcpy(&value, &bits, sizeof value);
      if (rng_.below(4) != 0) value = rng_.uniform(low, high);
      if (!range.zero.empty() && rng_.below(4) == 0) {
        value = 0;
        return;
      }
    } while (!std::isfinite(value) || (range.above && value <= low) || (range.min && value < low) ||
             (range.below && value >= high) || (range.max && value > high));
  }
  void boolean(std::string_view, bool& value, std::string_view) override {
    value = rng_.below(2) == 1;
  }
  void text(std::string_view, std::string& value, config::Text rule, std::string_view) override {
    do {
      value = rule.one_of.empty() ? any_text() : rule.one_of[rng_.below(rule.one_of.size())];
    } while (rule.required && value.empty());
  }
  void texts(std::string_view, std::vector<std::string>& value, std::string_view) override {
    value.resize(rng_.below(4));
    for (std::string& word : value) word = any_text();
  }
  void section(std::string_view, config::Options& value, std::string_view) override {
    value.fields(*this);
  }
  void plugin(std::string_view, config::Plugin& value, const config::Kinds& kinds,
              std::string_view) override {
    value = any_plugin(kinds);
  }
  void plugins(std::string_view, std::vector<config::Plugin>& value, const config::Kinds& kinds,
               std::size_t count_max, std::string_view) override {
    value.resize(rng_.below(count_max + 1));
    for (config::Plugin& item : value) item = any_plugin(kinds);
  }

 private:
  config::Plugin any_plugin(const config::Kinds& kinds) {
    // Deep down the first one, which holds no other.
    const std::size_t choices = ++plugins_ < 20 ? kinds.size() : 1;
    config::Plugin plugin = make_plugin(kinds, kinds[rng_.below(choices)].name);
    plugin.options->fields(*this);
    return plugin;
  }
  std::string any_text() {
    static const std::vector<std::string> pieces = {
        "a",      "Z9",   "true",       "no",  "null", "NULL",  "Null", "~",  "1",
        "-1.5e3", "0x1f", ".inf",       ".",   "..",   "- ",    "? ",   ": ", " #",
        "#",      "\"",   "'",          "\\",  "\\n",  "\n",    "\t",   " ",  "[",
        "]",      "{",    "}",          ",",   "&a",   "*a",    "!t",   "|",  ">",
        "%",      "@",    "`",          "---", "...",  "=",     "<<",   "é",  "\u2028",
        "\u0085", "漢",   "\U0001F600", "/",   "x:",   "\ufeff"};
    std::string text;
    for (std::size_t left = rng_.below(6); left > 0; --left)
      text += pieces[rng_.below(pieces.size())];
    return text;
  }

  Rng& rng_;
  int plugins_ = 0;
};

}  // namespace fedctl::test
