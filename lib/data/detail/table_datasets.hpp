// The datasets over a table's rows.
#pragma once

#include <memory>

#include "data/dataset.hpp"
#include "data/detail/table_features.hpp"
#include "data/detail/table_rows.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::data {

// What train and test part have in common.
struct TableTexts {
  TablePlan plan;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::size_t longest = 0;
  std::string answer_after;
};

std::unique_ptr<Dataset> text_table(TableTexts texts, TableRows rows, DatasetInfo info);
std::unique_ptr<Dataset> feature_table(std::shared_ptr<const Features> features, TableRows rows,
                                       DatasetInfo info);

}  // namespace fedctl::data
