#include "data/detail/file.hpp"

#include <zlib.h>

#include <filesystem>

#include "base/assert.hpp"
#include "base/errors.hpp"

namespace fedctl::data {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

class Empty final : public Dataset {
 public:
  explicit Empty(DatasetInfo info) : info_(std::move(info)) {}
  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return 0; }
  std::int64_t label(std::size_t) const override {
    FEDCTL_ASSERT(false);
    return 0;
  }
  std::size_t length(std::size_t) const override {
    FEDCTL_ASSERT(false);
    return 0;
  }
  std::string field(std::size_t) const override {
    FEDCTL_ASSERT(false);
    return "";
  }
  Batch gather(std::span<const std::size_t>) const override {
    FEDCTL_ASSERT(false);
    return {};
  }

 private:
  DatasetInfo info_;
};

}  // namespace

std::vector<std::uint8_t> read_file(const std::string& path, std::uint64_t bytes_max) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw DataError(path + ": no such file",
                    "data.path and data.tokenizer are relative to the current directory");
  }
  // zlib reads files that are not gzip as they are.
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) throw DataError(path + ": cannot be opened");
  std::vector<std::uint8_t> bytes;
  std::string problem;
  while (true) {
    const std::size_t at = bytes.size();
    bytes.resize(at + kPieceBytes);
    const int got = gzread(file, bytes.data() + at, kPieceBytes);
    bytes.resize(at + static_cast<std::size_t>(std::max(got, 0)));
    int status = Z_OK;
    const char* text = gzerror(file, &status);
    if (got < 0 || (status != Z_OK && status != Z_STREAM_END))
      problem = std::string("damaged: ") + text;
    if (bytes.size() > bytes_max) problem = "larger than " + std::to_string(bytes_max) + " bytes";
    if (got <= 0 || !problem.empty()) break;
  }
  gzclose(file);
  if (!problem.empty()) throw DataError(path + ": " + problem);
  return bytes;
}

std::string find_in(const std::string& folder, const std::vector<std::string>& names) {
  std::error_code error;
  for (const std::string& name : names) {
    const std::string path = folder + '/' + name;
    if (std::filesystem::is_regular_file(path, error)) return path;
  }
  return "";
}

std::unique_ptr<Dataset> empty_dataset(DatasetInfo info) {
  return std::make_unique<Empty>(std::move(info));
}

}  // namespace fedctl::data
