#include "data/detail/table_rows.hpp"

#include <filesystem>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/config.hpp"

namespace fedctl::data {
namespace {

constexpr std::size_t kClassesMax = 1 << 16;

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

// "" or what is wrong with the texts of the row.
std::string texts_fault(const Record& record, const TablePlan& plan) {
  for (const std::size_t column : {plan.text, plan.text_pair, plan.response}) {
    if (column != kNoColumn && is_blank(record.cells[column]))
      return '"' + plan.wanted[column].name + "\" is empty";
  }
  if (plan.mode == TablePlan::Mode::answer && is_blank(plan.prompt.fill(record.cells)))
    return "the prompt is empty";
  return "";
}

std::string name_fault(const std::string& name, const std::string& what) {
  if (!name.empty() && name.size() <= limits::kNameBytesMax) return "";
  return what + " of " + std::to_string(name.size()) + " bytes, expected 1 to " +
         std::to_string(limits::kNameBytesMax);
}

}  // namespace

std::string stem_of(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  return name.substr(0, name.find('.'));
}

Labels::Labels(const std::vector<std::string>& classes, const std::string& other)
    : open_(classes.empty()), given_(!classes.empty()) {
  for (const std::string& name : classes)
    numbers_.emplace(name, static_cast<std::int32_t>(numbers_.size()));
  if (other.empty()) return;
  other_ = static_cast<std::int32_t>(numbers_.size());
  numbers_.emplace(other, other_);
}

std::int32_t Labels::number(const std::string& label, std::string& fault, std::string& hint) {
  const auto found = numbers_.find(label);
  if (found != numbers_.end()) return found->second;
  fault = name_fault(label, "a label");
  if (!fault.empty() || other_ >= 0) return fault.empty() ? other_ : -1;
  if (!open_) {
    fault = "label \"" + label + "\" is none of the " + std::to_string(numbers_.size()) +
            (given_ ? " of data.classes" : " classes of the training part");
    const std::string near = config::nearest(label, names());
    hint = near.empty() ? "data.classes lists the labels there are, data.other takes the rest"
                        : "did you mean \"" + near + "\"?";
    return -1;
  }
  if (numbers_.size() == kClassesMax) {
    fault = "more than " + std::to_string(kClassesMax) + " different labels";
    hint = "is data.label the column that was meant?";
    return -1;
  }
  const auto number = static_cast<std::int32_t>(numbers_.size());
  numbers_.emplace(label, number);
  return number;
}

std::vector<std::int32_t> Labels::close() {
  std::vector<std::int32_t> now(numbers_.size());
  std::int32_t next = 0;
  for (auto& [name, number] : numbers_) {
    if (open_) {
      now[static_cast<std::size_t>(number)] = next;
      number = next++;
    } else {
      now[static_cast<std::size_t>(number)] = number;
    }
  }
  open_ = false;
  return now;
}

std::vector<std::string> Labels::names() const {
  std::vector<std::string> names(numbers_.size());
  for (const auto& [name, number] : numbers_) names[static_cast<std::size_t>(number)] = name;
  return names;
}

TableRows::TableRows(const Files& files, const TableOptions& options, const TablePlan& plan,
                     Labels& labels, const Check& check)
    : stop_(options.on_error == "stop") {
  for (const std::string& path : files.paths) {
    TableFile& file =
        files_.emplace_back(path, TableFile::Options{options.format, options.header, files.split});
    file.want(plan.wanted);
    const std::size_t first = rows_.size();
    scan(file, plan, labels, check);
    if (!files.owners || plan.client != kNoColumn) continue;
    const std::int32_t owner = owner_number(stem_of(path));
    for (std::size_t row = first; row < rows_.size(); ++row) rows_[row].owner = owner;
  }
  if (rows_.empty()) {
    throw DataError(files.paths.front() + ": no row that can be used",
                    skipped_ == 0 ? "is it the file that was meant?" : first_skipped_);
  }
  if (skipped_ > 0) {
    notes_.push_back(std::to_string(skipped_) + " of " + std::to_string(skipped_ + rows_.size()) +
                     " rows skipped, the first: " + first_skipped_);
  }
}

void TableRows::scan(const TableFile& file, const TablePlan& plan, Labels& labels,
                     const Check& check) {
  Record record;
  TableFile::Cursor cursor = file.begin();
  while (file.read(cursor, record)) {
    if (record.fault.empty()) record.fault = texts_fault(record, plan);
    if (record.fault.empty() && plan.client != kNoColumn)
      record.fault = name_fault(record.cells[plan.client], "an owner's name");
    if (record.fault.empty() && check) record.fault = check(record);
    Row row{record.at, static_cast<std::uint32_t>(files_.size() - 1), 0, -1};
    // Last, so that no row that is left out brings in a class.
    if (record.fault.empty() && plan.label != kNoColumn)
      row.label = labels.number(record.cells[plan.label], record.fault, record.hint);
    if (record.fault.empty()) {
      if (plan.client != kNoColumn) row.owner = owner_number(record.cells[plan.client]);
      rows_.push_back(row);
      continue;
    }
    const std::string what = file.place(record.line) + record.fault;
    if (stop_ || record.broken) {
      throw DataError(what,
                      record.hint.empty() ? "on_error: skip leaves such rows out" : record.hint);
    }
    if (skipped_++ == 0) first_skipped_ = what;
  }
}

std::int32_t TableRows::owner_number(const std::string& name) {
  const auto next = static_cast<std::int32_t>(owners_.size());
  const auto [at, is_new] = owner_numbers_.emplace(name, next);
  if (is_new) owners_.push_back(name);
  return at->second;
}

const std::string& TableRows::owner(std::size_t row) const {
  static const std::string kNobody;
  const std::int32_t owner = rows_[row].owner;
  return owner < 0 ? kNobody : owners_[static_cast<std::size_t>(owner)];
}

std::uint64_t TableRows::bytes() const {
  std::uint64_t sum = 0;
  for (const TableFile& file : files_) sum += file.bytes();
  return sum;
}

void TableRows::read(std::size_t row, Record& record) const {
  TableFile::Cursor cursor{rows_[row].at, 1};
  if (files_[rows_[row].file].read(cursor, record) && record.fault.empty()) return;
  throw DataError(place(row) + "not the row that was here when the file was opened",
                  "leave data files alone while a run uses them");
}

std::string TableRows::place(std::size_t row) const {
  return files_[rows_[row].file].path() + ": byte " + std::to_string(rows_[row].at) + ": ";
}

void TableRows::relabel(const std::vector<std::int32_t>& numbers) {
  if (numbers.empty()) return;
  for (Row& row : rows_) row.label = numbers[static_cast<std::size_t>(row.label)];
}

}  // namespace fedctl::data
