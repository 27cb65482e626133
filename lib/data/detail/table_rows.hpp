// The rows of a table's part: where each begins, its label and its owner. Every row is read and
// checked once when the part is opened; afterwards a row is read again where it is needed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/detail/table_file.hpp"
#include "data/detail/table_plan.hpp"

namespace fedctl::data {

// Label texts and their numbers.
class Labels {
 public:
  // Given: `classes` and, behind them, `other` if it is not empty. Found: none are given.
  Labels(const std::vector<std::string>& classes, const std::string& other);
  // The number, or a fault: -1 and what is wrong.
  std::int32_t number(const std::string& label, std::string& fault, std::string& hint);
  // Of labels that were found: from now on there are no others. Returns the numbers they have from
  // now on (sorted by their bytes), by the numbers they had.
  std::vector<std::int32_t> close();
  std::vector<std::string> names() const;

 private:
  std::map<std::string, std::int32_t> numbers_;
  std::int32_t other_ = -1;
  bool open_, given_;
};

// "client_3" of a/client_3.jsonl.gz.
std::string stem_of(const std::string& path);

class TableRows {
 public:
  // "" or what is wrong with a row's cells beyond text and label.
  using Check = std::function<std::string(const Record&)>;
  struct Files {
    std::vector<std::string> paths;
    bool owners = false;  // each file is one owner's, who bears its name
    std::string split;
  };
  // Throws DataError naming file, line and fault, as options.on_error has it; and if no row is
  // left.
  TableRows(const Files& files, const TableOptions& options, const TablePlan& plan, Labels& labels,
            const Check& check);

  std::size_t size() const { return rows_.size(); }
  std::int64_t label(std::size_t row) const { return rows_[row].label; }
  const std::string& owner(std::size_t row) const;
  std::uint64_t bytes() const;
  // Throws DataError if the file was changed since it was opened.
  void read(std::size_t row, Record& record) const;
  std::string place(std::size_t row) const;  // "path: byte 17: "
  void relabel(const std::vector<std::int32_t>& numbers);
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Row {
    std::uint64_t at;
    std::uint32_t file;
    std::int32_t label;
    std::int32_t owner;
  };
  void scan(const TableFile& file, const TablePlan& plan, Labels& labels, const Check& check);
  std::int32_t owner_number(const std::string& name);

  bool stop_;
  std::vector<TableFile> files_;
  std::vector<Row> rows_;
  std::vector<std::string> owners_;
  std::map<std::string, std::int32_t> owner_numbers_;
  std::uint64_t skipped_ = 0;
  std::string first_skipped_;
  std::vector<std::string> notes_;
};

}  // namespace fedctl::data
