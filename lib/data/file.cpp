#include "data/detail/file.hpp"

#include <zlib.h>

#include <algorithm>
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

std::vector<std::uint8_t> read_up_to(const std::string& path, std::uint64_t bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw DataError(path + ": no such file",
                    "data.path and data.tokenizer are relative to the current directory");
  }
  // zlib reads files that are not gzip as they are.
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) throw DataError(path + ": cannot be opened", "check permissions");
  std::vector<std::uint8_t> read;
  while (read.size() < bytes) {
    // Grows with what is there, never by what a header claims.
    const std::size_t at = read.size(), piece = std::min<std::uint64_t>(kPieceBytes, bytes - at);
    read.resize(at + piece);
    const int got = gzread(file.get(), read.data() + at, static_cast<unsigned>(piece));
    read.resize(at + static_cast<std::size_t>(std::max(got, 0)));
    int status = Z_OK;
    const char* text = gzerror(file.get(), &status);
    if (got < 0 || (status != Z_OK && status != Z_STREAM_END)) {
      throw DataError(path + ": damaged near byte " + std::to_string(read.size()) + ": " + text,
                      "the file may be cut short");
    }
    if (got == 0) break;
  }
  return read;
}

std::vector<std::uint8_t> read_file(const std::string& path, std::uint64_t bytes_max) {
  std::vector<std::uint8_t> bytes = read_up_to(path, bytes_max + 1);
  if (bytes.size() > bytes_max) {
    throw DataError(path + ": larger than " + std::to_string(bytes_max) + " bytes",
                    "is it the file that was meant?");
  }
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
