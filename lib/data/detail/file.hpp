// Files as the data room reads them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.hpp"

namespace fedctl::data {

// A whole file, gunzipped if it is gzip. Throws DataError naming the file if it is absent,
// unreadable, damaged, or larger than bytes_max when unpacked.
std::vector<std::uint8_t> read_file(const std::string& path, std::uint64_t bytes_max);

// The same, but no more than its first `bytes`.
std::vector<std::uint8_t> read_up_to(const std::string& path, std::uint64_t bytes);

// The first of the names that exists in the folder; "" if none does.
std::string find_in(const std::string& folder, const std::vector<std::string>& names);

// No examples; where a source has no test part.
std::unique_ptr<Dataset> empty_dataset(DatasetInfo info);

}  // namespace fedctl::data
