#include "data/detail/table.hpp"

namespace fedctl::data {

DatasetEntry jsonl();
DatasetEntry jsonl() {
  return table_entry("jsonl", "texts or features from JSON, one object a line or a list of them",
                     TableFormat::jsonl);
}

}  // namespace fedctl::data
