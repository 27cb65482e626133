// What an experiment asks of a table, and which columns that takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/fields.hpp"
#include "data/detail/table_file.hpp"

namespace fedctl::data {

struct TableOptions final : config::Options {
  explicit TableOptions(TableFormat of) : format(of) {}
  void fields(config::Fields& fields) override;

  TableFormat format;
  std::string path, test, tokenizer, split, test_split;
  bool header = true;
  std::string text = "text", text_pair, label = "label", prompt, response, client;
  std::string answer_after, other, scale = "standard", on_error = "stop";
  std::vector<std::string> features, drop, classes;
  std::int64_t longest = 128;
};

inline constexpr std::size_t kNoColumn = static_cast<std::size_t>(-1);

// "{instruction}\n{context}\n" over a record's cells; {{ and }} are braces.
class Template {
 public:
  struct Piece {
    std::string before;              // literally
    std::size_t column = kNoColumn;  // then this cell
  };
  explicit Template(std::vector<Piece> pieces = {}) : pieces_(std::move(pieces)) {}
  std::string fill(const std::vector<std::string>& cells) const;

 private:
  std::vector<Piece> pieces_;
};

struct TablePlan {
  enum class Mode { classify_text, classify_features, continue_text, answer };
  Mode mode = Mode::classify_text;
  std::vector<WantedColumn> wanted;
  // Places in `wanted`.
  std::size_t text = kNoColumn, text_pair = kNoColumn, label = kNoColumn, client = kNoColumn,
              response = kNoColumn;
  std::vector<std::size_t> features;
  Template prompt;
};

// Throws ConfigError for options that do not go together.
void check_table(const TableOptions& options);
// `columns` are those of the first training file. Throws ConfigError for options that do not go
// together, DataError if nothing is left for features: ["*"].
TablePlan plan_table(const TableOptions& options, const std::vector<std::string>& columns);

}  // namespace fedctl::data
