// Finds a table's files and opens its train and test parts.
#include "data/detail/table.hpp"

#include <algorithm>
#include <filesystem>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/detail/table_datasets.hpp"

namespace fedctl::data {
namespace {

struct Found {
  TableRows::Files train, test;  // test may be empty
};

std::vector<std::string> endings(TableFormat format) {
  if (format == TableFormat::csv) return {".csv", ".csv.gz"};
  if (format == TableFormat::tsv) return {".tsv", ".tsv.gz"};
  return {".jsonl", ".jsonl.gz", ".json", ".json.gz"};
}

std::string find_stem(const std::string& folder, const std::string& stem, TableFormat format) {
  std::vector<std::string> names;
  for (const std::string& ending : endings(format)) names.push_back(stem + ending);
  return find_in(folder, names);
}

// client_*, sorted; one file for each owner.
std::vector<std::string> find_clients(const std::string& folder, TableFormat format) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const std::size_t dot = name.find('.');
    if (!name.starts_with("client_") || dot == std::string::npos) continue;
    const std::vector<std::string> known = endings(format);
    if (std::ranges::find(known, name.substr(dot)) != known.end())
      paths.push_back(folder + '/' + name);
  }
  std::ranges::sort(paths);
  for (std::size_t i = 1; i < paths.size(); ++i) {
    if (stem_of(paths[i - 1]) == stem_of(paths[i])) {
      throw DataError(paths[i] + ": the same client as " + paths[i - 1],
                      "one file a client, packed or not");
    }
  }
  return paths;
}

Found find_files(const TableOptions& options) {
  Found found;
  std::error_code error;
  if (!std::filesystem::is_directory(options.path, error)) {
    found.train.paths = {options.path};
    if (!options.test_split.empty()) found.test.paths = {options.path};
  } else if (const std::string train = find_stem(options.path, "train", options.format);
             !train.empty()) {
    found.train.paths = {train};
  } else {
    found.train = {find_clients(options.path, options.format), true, ""};
    if (found.train.paths.empty()) {
      throw DataError(options.path + ": no train" + endings(options.format).front() + " in it",
                      "data.path takes a file, or a folder with train.* or client_*.*, .gz or not");
    }
  }
  if (std::filesystem::is_directory(options.path, error)) {
    for (const char* stem : {"test", "global_test"}) {
      const std::string test = find_stem(options.path, stem, options.format);
      if (found.test.paths.empty() && !test.empty()) found.test.paths = {test};
    }
  }
  if (!options.test.empty()) found.test.paths = {options.test};
  found.train.split = options.split;
  found.test.split = options.test_split;
  return found;
}

std::vector<std::string> columns_of(const std::string& path, const TableOptions& options) {
  return TableFile(path, {options.format, options.header, options.split}).columns();
}

DatasetInfo with_notes(DatasetInfo info, const TableRows& rows) {
  info.notes = rows.notes();
  return info;
}

DatasetInfo classes_info(const TablePlan& plan, const Labels& labels) {
  DatasetInfo info;
  const bool classify = plan.mode == TablePlan::Mode::classify_text ||
                        plan.mode == TablePlan::Mode::classify_features;
  info.task = classify ? Task::classify : Task::language;
  if (classify) info.classes = labels.names();
  // Rows without a label, as an anomaly detector's, are all of one class.
  if (classify && info.classes.empty()) info.classes = {"row"};
  return info;
}

Source open_features(const TableOptions& options, const TablePlan& plan, const Found& found) {
  Labels labels(options.classes, options.other);
  const auto features = std::make_shared<Features>(plan, options.scale);
  TableRows train(found.train, options, plan, labels,
                  [&](const Record& record) { return features->observe(record); });
  train.relabel(labels.close());
  if (features->wants_words()) {
    Record record;
    for (std::size_t row = 0; row < train.size(); ++row) {
      train.read(row, record);
      features->see_words(record);
    }
  }
  features->finish();
  DatasetInfo info = classes_info(plan, labels);
  info.input_shape = {static_cast<std::int64_t>(features->width())};
  Source source;
  source.test = empty_dataset(info);
  if (!found.test.paths.empty()) {
    TableRows test(found.test, options, plan, labels,
                   [&](const Record& record) { return features->fault(record); });
    const DatasetInfo noted = with_notes(info, test);
    source.test = feature_table(features, std::move(test), noted);
  }
  info = with_notes(std::move(info), train);
  source.train = feature_table(features, std::move(train), std::move(info));
  return source;
}

Source open_texts(const TableOptions& options, const TablePlan& plan, const Found& found) {
  const TableTexts texts{plan, open_tokenizer(options.tokenizer),
                         static_cast<std::size_t>(options.longest), options.answer_after};
  Labels labels(options.classes, options.other);
  TableRows train(found.train, options, plan, labels, nullptr);
  train.relabel(labels.close());
  DatasetInfo info = classes_info(plan, labels);
  info.vocabulary = texts.tokenizer->vocabulary();
  info.vocabulary_digest = texts.tokenizer->digest();
  Source source;
  source.test = empty_dataset(info);
  if (!found.test.paths.empty()) {
    TableRows test(found.test, options, plan, labels, nullptr);
    const DatasetInfo noted = with_notes(info, test);
    source.test = text_table(texts, std::move(test), noted);
  }
  info = with_notes(std::move(info), train);
  source.train = text_table(texts, std::move(train), std::move(info));
  return source;
}

Source open_table(const config::Options& given, const Rng&) {
  const auto& options = dynamic_cast<const TableOptions&>(given);
  const Found found = find_files(options);
  const bool all = options.features == std::vector<std::string>{"*"};
  const TablePlan plan = plan_table(
      options, all ? columns_of(found.train.paths.front(), options) : std::vector<std::string>());
  return plan.mode == TablePlan::Mode::classify_features ? open_features(options, plan, found)
                                                         : open_texts(options, plan, found);
}

}  // namespace

DatasetEntry table_entry(const std::string& name, const std::string& summary, TableFormat format) {
  return {{name, summary, "", [format] { return std::make_unique<TableOptions>(format); }},
          open_table,
          [](const config::Options& options) {
            check_table(dynamic_cast<const TableOptions&>(options));
          }};
}

}  // namespace fedctl::data
