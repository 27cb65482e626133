// file: one client number a line; line i is training row i (from 0).
#include <algorithm>
#include <charconv>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 30;

struct FileOptions final : config::Options {
  std::string path;
  void fields(config::Fields& fields) override {
    fields.text("path", path, {.kind = "a file", .required = true},
                "one client number a line, a line a training row");
  }
};

std::vector<std::vector<std::size_t>> split(const config::Options& given, const Dataset& train,
                                            std::size_t clients, Rng) {
  const std::string& path = dynamic_cast<const FileOptions&>(given).path;
  const std::vector<std::uint8_t> bytes = read_file(path, kFileBytesMax);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<std::vector<std::size_t>> lists(clients);
  std::size_t row = 0;
  for (std::size_t at = 0; at < text.size(); ++row) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    at = end + 1;
    std::size_t client = 0;
    const auto [stop, error] = std::from_chars(line.data(), line.data() + line.size(), client);
    if (error != std::errc{} || stop != line.data() + line.size() || client >= clients) {
      throw DataError(path + ':' + std::to_string(row + 1) +
                      ": expected a client number from 0 to " + std::to_string(clients - 1));
    }
    if (row >= train.size()) {
      throw DataError(path + ':' + std::to_string(row + 1) + ": the data have " +
                      std::to_string(train.size()) + " training rows, this line is one too many");
    }
    lists[client].push_back(row);
  }
  if (row != train.size()) {
    throw DataError(path + ": has " + std::to_string(row) + " lines, the data " +
                    std::to_string(train.size()) + " training rows");
  }
  return lists;
}

}  // namespace

PartitionerEntry partition_file();
PartitionerEntry partition_file() {
  return {{"file", "explicit: one client number a line", "",
           [] { return std::make_unique<FileOptions>(); }},
          split};
}

}  // namespace fedctl::data
