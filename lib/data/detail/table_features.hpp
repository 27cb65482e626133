// Columns of numbers and words as the inputs of a model.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "data/detail/table_plan.hpp"

namespace fedctl::data {

// A column whose every training value is a number is one input: as it is, or
//   standard:    z = (x - mean) / deviation, cut at +-10
//   signed_log:  the same of sign(x) log(1 + |x|)
// by mean and deviation of the training part (deviation 1 where all are equal). Any other column is
// one input for each of its distinct training values, sorted: 1 for the value it has, else 0; a
// value that only the test part has is all zeros.
class Features {
 public:
  Features(const TablePlan& plan, const std::string& scale);

  // The training part, row by row: first observe() all, then, if wants_words(), see_words() all,
  // then finish(). observe() returns what is wrong with the row, "" if nothing is, and a row with a
  // fault does not count. see_words() throws DataError for a column of too many distinct words.
  std::string observe(const Record& record);
  bool wants_words() const;
  void see_words(const Record& record);
  void finish();

  std::size_t width() const { return width_; }
  std::string fault(const Record& record) const;                 // of a test row
  void write(const Record& record, std::span<float> out) const;  // out.size() == width()

 private:
  struct Column {
    std::string name;
    std::size_t cell = 0;
    bool numeric = true;
    double count = 0, mean = 0, squares = 0, deviation = 1;
    std::set<std::string> seen;
    std::vector<std::string> words;
  };
  double scaled(double value) const;

  std::vector<Column> columns_;
  bool logarithm_, standard_;
  std::size_t width_ = 0;
};

}  // namespace fedctl::data
