#include "data/detail/table.hpp"

namespace fedctl::data {

DatasetEntry csv();
DatasetEntry csv() {
  return table_entry("csv", "texts or features from comma-separated values, quoted as in RFC 4180",
                     TableFormat::csv);
}

}  // namespace fedctl::data
