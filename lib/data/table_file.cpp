#include "data/detail/table_file.hpp"

#include <algorithm>
#include <set>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/config.hpp"

namespace fedctl::data {
namespace {

bool is_document(const std::string& path, const TableFile::Options& options) {
  return options.format == TableFormat::jsonl &&
         (path.ends_with(".json") || path.ends_with(".json.gz") || !options.split.empty());
}

FileBytes open_bytes(const std::string& path, const TableFile::Options& options) {
  FileBytes bytes(path);
  if (!is_document(path, options)) return bytes;
  return FileBytes(json_list_as_lines(bytes.view(), options.split, path));
}

std::string too_long() {
  return "longer than " + std::to_string(limits::kJsonlLineBytesMax) + " bytes";
}

std::string as_text(const std::string& name) { return '"' + name.substr(0, 80) + '"'; }

}  // namespace

std::string column_hint(const std::string& name, const std::vector<std::string>& columns) {
  const std::string near = config::nearest(name, columns);
  if (!near.empty()) return "did you mean \"" + near + "\"?";
  if (columns.empty()) return "nothing stands in it";
  std::string hint = "there are";
  for (std::size_t i = 0; i < columns.size() && i < 12; ++i)
    hint += (i == 0 ? " " : ", ") + columns[i].substr(0, 40);
  return hint + (columns.size() > 12 ? ", ..." : "");
}

TableFile::TableFile(const std::string& path, const Options& options)
    : path_(path),
      options_(options),
      document_(is_document(path, options)),
      bytes_(open_bytes(path, options)) {
  if (bytes_.view().starts_with("\xef\xbb\xbf")) begin_.at = 3;
  read_columns();
}

void TableFile::read_columns() {
  Cursor cursor = begin_;
  Record record;
  if (options_.format == TableFormat::jsonl) {
    if (!read(cursor, record)) throw DataError(path_ + ": no record in it", "one object a line");
    JsonRecord json;
    // A first record with a fault is met again, in its turn, where rows are read.
    const std::string_view line = bytes_.view().substr(record.at);
    if (record.fault.empty()) read_json_record(line.substr(0, line.find('\n')), json);
    columns_ = std::move(json.names);
    columns_.insert(columns_.end(), json.nested.begin(), json.nested.end());
    return;
  }
  std::vector<std::string> cells;
  split_record(cursor, record, cells);
  if (record.fault.empty() && cells.size() > kTableColumnsMax) {
    record.fault = "more than " + std::to_string(kTableColumnsMax) + " columns";
    record.hint = "is it the file that was meant?";
  }
  if (!record.fault.empty()) throw DataError(place(record.line) + record.fault, record.hint);
  if (!options_.header) {
    for (std::size_t i = 0; i < cells.size(); ++i) columns_.push_back(std::to_string(i));
    return;
  }
  std::set<std::string> seen;
  for (const std::string& name : cells) {
    if (seen.insert(name).second) continue;
    throw DataError(place(record.line) + "two columns are named " + as_text(name),
                    "a file without column names takes header: false");
  }
  columns_ = std::move(cells);
  begin_ = cursor;
}

void TableFile::want(std::vector<WantedColumn> wanted) {
  wanted_ = std::move(wanted);
  indices_.clear();
  if (options_.format == TableFormat::jsonl) return;
  for (const WantedColumn& column : wanted_) {
    const auto found = std::ranges::find(columns_, column.name);
    if (found == columns_.end()) {
      throw DataError(place(1) + "no column " + as_text(column.name),
                      column_hint(column.name, columns_));
    }
    indices_.push_back(static_cast<std::size_t>(found - columns_.begin()));
  }
}

std::string TableFile::place(std::uint64_t line) const {
  return path_ + (document_ ? ": element " : ":") + std::to_string(line) + ": ";
}

bool TableFile::read(Cursor& cursor, Record& record) const {
  record.fault.clear();
  record.hint.clear();
  record.broken = false;
  const std::string_view bytes = bytes_.view();
  // Empty lines are no records.
  while (cursor.at < bytes.size() &&
         (bytes[cursor.at] == '\n' || bytes.substr(cursor.at, 2) == "\r\n")) {
    cursor.at += bytes[cursor.at] == '\n' ? 1 : 2;
    ++cursor.line;
  }
  if (cursor.at >= bytes.size()) return false;
  if (options_.format == TableFormat::jsonl) {
    read_object(cursor, record);
  } else {
    read_cells(cursor, record);
  }
  return true;
}

// Precondition: not at an empty line, except for the header.
void TableFile::split_record(Cursor& cursor, Record& record,
                             std::vector<std::string>& cells) const {
  const std::string_view bytes = bytes_.view();
  record.at = cursor.at;
  record.line = cursor.line;
  cells.clear();
  if (options_.format == TableFormat::csv) {
    std::size_t at = cursor.at, lines = 0;
    record.fault = split_csv(bytes, at, lines, cells);
    if (!record.fault.empty()) {
      record.broken = true;
      record.hint = "cells are separated by commas; a quote inside a quoted cell is doubled";
      record.line += lines;
    }
    cursor.line += lines;
    cursor.at = at;
  } else {
    const std::size_t end = std::min(bytes.find('\n', cursor.at), bytes.size());
    std::string_view line = bytes.substr(cursor.at, end - cursor.at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    cursor.at = std::min(end + 1, bytes.size());
    if (line.size() <= limits::kJsonlLineBytesMax) split_tsv(line, cells);
  }
  ++cursor.line;
  if (record.fault.empty() && cursor.at - record.at > limits::kJsonlLineBytesMax) {
    record.fault = too_long();
    record.hint = "one example a line";
  }
  if (record.fault.empty()) {
    record.fault = text_fault(bytes.substr(record.at, cursor.at - record.at));
    if (!record.fault.empty()) record.hint = "tables are text in UTF-8";
  }
}

void TableFile::read_cells(Cursor& cursor, Record& record) const {
  std::vector<std::string> cells;
  split_record(cursor, record, cells);
  if (!record.fault.empty()) return;
  if (cells.size() != columns_.size()) {
    record.fault = std::to_string(cells.size()) + (cells.size() == 1 ? " column" : " columns") +
                   ", expected " + std::to_string(columns_.size());
    record.hint = options_.format == TableFormat::csv
                      ? "a cell with a comma or a line end in it is quoted"
                      : "cells are separated by one tab, and none has a tab in it";
    return;
  }
  record.cells.resize(wanted_.size());
  for (std::size_t i = 0; i < wanted_.size(); ++i) record.cells[i] = cells[indices_[i]];
}

void TableFile::read_object(Cursor& cursor, Record& record) const {
  const std::string_view bytes = bytes_.view();
  const std::size_t end = std::min(bytes.find('\n', cursor.at), bytes.size());
  const std::string_view line = bytes.substr(cursor.at, end - cursor.at);
  record.at = cursor.at;
  record.line = cursor.line++;
  cursor.at = std::min(end + 1, bytes.size());
  record.hint = "one object a line";
  JsonRecord json;
  record.fault =
      line.size() > limits::kJsonlLineBytesMax ? too_long() : read_json_record(line, json);
  if (!record.fault.empty()) return;
  record.cells.assign(wanted_.size(), "");
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    const std::string& name = wanted_[i].name;
    const auto found = std::ranges::find(json.names, name);
    if (found != json.names.end()) {
      record.cells[i] =
          std::move(json.values[static_cast<std::size_t>(found - json.names.begin())]);
      record.fault = text_fault(record.cells[i]);
    } else if (std::ranges::find(json.nested, name) != json.nested.end()) {
      record.fault = as_text(name) + " is a list or an object, expected a text or a number";
    } else if (!wanted_[i].may_lack) {
      record.fault = "no " + as_text(name) + " in it";
      record.hint = column_hint(name, json.names);
    }
    if (!record.fault.empty()) return;
  }
  record.hint.clear();
}

}  // namespace fedctl::data
