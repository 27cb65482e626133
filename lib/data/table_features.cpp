#include "data/detail/table_features.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "base/errors.hpp"

namespace fedctl::data {
namespace {

constexpr double kCut = 10;
constexpr std::size_t kWordsMax = 4096;
constexpr double kLargest = std::numeric_limits<float>::max();

// The number a cell is; one that no float holds is not finite. Nothing if it is a word.
std::optional<double> number_in(std::string_view cell) {
  const std::size_t first = cell.find_first_not_of(' ');
  if (first == std::string_view::npos) return std::nullopt;
  cell = cell.substr(first, cell.find_last_not_of(' ') + 1 - first);
  if (cell.starts_with('+')) cell.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (end != cell.data() + cell.size() || error == std::errc::invalid_argument) return std::nullopt;
  if (error == std::errc::result_out_of_range || !(std::abs(value) <= kLargest))
    return std::numeric_limits<double>::quiet_NaN();
  return value;
}

std::string fault_of(const std::string& name, const std::string& cell, const char* what) {
  return '"' + name.substr(0, 80) + "\" is \"" + cell.substr(0, 40) + "\", " + what;
}

}  // namespace

Features::Features(const TablePlan& plan, const std::string& scale)
    : logarithm_(scale == "signed_log"), standard_(scale != "none") {
  for (const std::size_t cell : plan.features) {
    Column column;
    column.name = plan.wanted[cell].name;
    column.cell = cell;
    columns_.push_back(std::move(column));
  }
}

double Features::scaled(double value) const {
  return logarithm_ ? std::copysign(std::log1p(std::abs(value)), value) : value;
}

std::string Features::observe(const Record& record) {
  std::vector<std::optional<double>> values;
  for (const Column& column : columns_) {
    const std::string& cell = record.cells[column.cell];
    values.push_back(number_in(cell));
    if (values.back() && !std::isfinite(*values.back()))
      return fault_of(column.name, cell, "expected a finite number");
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    Column& column = columns_[i];
    column.numeric = column.numeric && values[i].has_value();
    if (!column.numeric) continue;
    // Welford's running mean and sum of squares, which do not cancel.
    const double value = scaled(*values[i]), off = value - column.mean;
    column.count += 1;
    column.mean += off / column.count;
    column.squares += off * (value - column.mean);
  }
  return "";
}

bool Features::wants_words() const {
  return std::ranges::any_of(columns_, [](const Column& column) { return !column.numeric; });
}

void Features::see_words(const Record& record) {
  for (Column& column : columns_) {
    if (column.numeric) continue;
    column.seen.insert(record.cells[column.cell]);
    if (column.seen.size() > kWordsMax) {
      throw DataError("column \"" + column.name + "\" has more than " + std::to_string(kWordsMax) +
                          " distinct values that are not all numbers",
                      "name it in data.drop, or clean it");
    }
  }
}

void Features::finish() {
  for (Column& column : columns_) {
    if (column.numeric) {
      const double deviation = std::sqrt(column.squares / column.count);
      column.deviation = deviation > 0 ? deviation : 1;
    }
    column.words.assign(column.seen.begin(), column.seen.end());
    column.seen.clear();
    width_ += column.numeric ? 1 : column.words.size();
  }
}

std::string Features::fault(const Record& record) const {
  for (const Column& column : columns_) {
    if (!column.numeric) continue;
    const std::string& cell = record.cells[column.cell];
    const std::optional<double> value = number_in(cell);
    if (!value) return fault_of(column.name, cell, "a number in every row of the training part");
    if (!std::isfinite(*value)) return fault_of(column.name, cell, "expected a finite number");
  }
  return "";
}

void Features::write(const Record& record, std::span<float> out) const {
  std::ranges::fill(out, 0.0F);
  std::size_t at = 0;
  for (const Column& column : columns_) {
    const std::string& cell = record.cells[column.cell];
    if (column.numeric) {
      const double value = number_in(cell).value_or(0);
      out[at++] = static_cast<float>(
          standard_ ? std::clamp((scaled(value) - column.mean) / column.deviation, -kCut, kCut)
                    : value);
      continue;
    }
    const auto found = std::ranges::lower_bound(column.words, cell);
    if (found != column.words.end() && *found == cell)
      out[at + static_cast<std::size_t>(found - column.words.begin())] = 1;
    at += column.words.size();
  }
}

}  // namespace fedctl::data
