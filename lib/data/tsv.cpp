#include "data/detail/table.hpp"

namespace fedctl::data {

DatasetEntry tsv();
DatasetEntry tsv() {
  return table_entry("tsv", "texts or features from tab-separated values, without quotes",
                     TableFormat::tsv);
}

}  // namespace fedctl::data
