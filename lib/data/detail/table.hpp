// csv, tsv and jsonl are one dataset over three file formats.
#pragma once

#include "data/detail/table_plan.hpp"
#include "data/registry.hpp"

namespace fedctl::data {

DatasetEntry table_entry(const std::string& name, const std::string& summary, TableFormat format);

}  // namespace fedctl::data
