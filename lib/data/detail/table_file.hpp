// A file of records, read one at a time: comma-separated values (RFC 4180), tab-separated values
// (no quotes), JSON lines, or a JSON document that is a list. A record is its cells by column name;
// only the columns that are wanted are kept.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/detail/table_bytes.hpp"

namespace fedctl::data {

inline constexpr std::size_t kTableColumnsMax = 1 << 16;

enum class TableFormat { csv, tsv, jsonl };

struct WantedColumn {
  std::string name;
  bool may_lack = false;  // in JSON: an object without it has an empty cell
};

struct Record {
  std::uint64_t at = 0;            // where it begins, in bytes
  std::uint64_t line = 0;          // from 1; of a JSON document, the number of the element
  std::vector<std::string> cells;  // as wanted
  std::string fault, hint;         // why it cannot be used; "" if it can
  bool broken = false;             // and nothing behind it can either
};

class TableFile {
 public:
  struct Options {
    TableFormat format = TableFormat::csv;
    bool header = true;
    std::string split;  // JSON document: the key its list stands under; "" if it is the list itself
  };
  // Throws DataError naming the file and line for a file that cannot be opened, has no record, or
  // names a column twice.
  TableFile(const std::string& path, const Options& options);

  const std::string& path() const { return path_; }
  std::uint64_t bytes() const { return bytes_.view().size(); }
  // Of the header; numbers from "0" without one; the first object's keys.
  const std::vector<std::string>& columns() const { return columns_; }
  // Throws DataError with the nearest column if there is no such one.
  void want(std::vector<WantedColumn> wanted);

  struct Cursor {
    std::uint64_t at = 0, line = 1;
  };
  Cursor begin() const { return begin_; }
  // The record at the cursor, which moves behind it. False at the end of the file. A record that
  // cannot be used has a fault; its cells are not to be read then.
  bool read(Cursor& cursor, Record& record) const;
  std::string place(std::uint64_t line) const;  // "path:3: "

 private:
  void split_record(Cursor& cursor, Record& record, std::vector<std::string>& cells) const;
  void read_cells(Cursor& cursor, Record& record) const;
  void read_columns();
  void read_object(Cursor& cursor, Record& record) const;

  std::string path_;
  Options options_;
  bool document_ = false;  // not lines
  FileBytes bytes_;
  Cursor begin_;
  std::vector<std::string> columns_;
  std::vector<WantedColumn> wanted_;
  std::vector<std::size_t> indices_;  // of the wanted in columns_; not for JSON
};

// One line's cells from `at` on, which moves behind its end; a quoted cell may hold line ends, and
// `lines` counts them. Of a record longer than limits::kJsonlLineBytesMax no more than that is
// kept. Returns what is wrong, or "".
std::string split_csv(std::string_view bytes, std::size_t& at, std::size_t& lines,
                      std::vector<std::string>& cells);
void split_tsv(std::string_view line, std::vector<std::string>& cells);

// The members of a JSON object that are texts, numbers, true or false, as text; of a list by number
// ("0", "1"). Null is as if it were absent.
struct JsonRecord {
  std::vector<std::string> names;
  std::vector<std::string> values;
  std::vector<std::string> nested;  // members that are lists or objects
};
// Returns what is wrong, or "".
std::string read_json_record(std::string_view line, JsonRecord& record);
// The elements of a document's list, one a line. Throws DataError.
std::vector<std::uint8_t> json_list_as_lines(std::string_view document, const std::string& split,
                                             const std::string& path);

// "did you mean X?" or the columns there are.
std::string column_hint(const std::string& name, const std::vector<std::string>& columns);

}  // namespace fedctl::data
