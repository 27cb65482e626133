// A file's bytes without a copy where that is possible: plain files are mapped, so that a table may
// be larger than memory; gzip files are unpacked into memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fedctl::data {

class FileBytes {
 public:
  // Throws DataError naming the file if it is absent, unreadable, empty, damaged, or unpacks to
  // more than 1 GiB. A mapped file must not be changed or cut while it is in use.
  explicit FileBytes(const std::string& path);
  // Bytes that were made, not read.
  explicit FileBytes(std::vector<std::uint8_t> bytes) : owned_(std::move(bytes)) {}
  FileBytes(FileBytes&& other) noexcept;
  FileBytes& operator=(FileBytes&&) = delete;
  ~FileBytes();

  std::string_view view() const;

 private:
  std::vector<std::uint8_t> owned_;
  const char* mapped_ = nullptr;
  std::size_t mapped_bytes_ = 0;
};

// "" if the text is UTF-8 without NUL bytes, else what is wrong with it.
std::string text_fault(std::string_view text);

}  // namespace fedctl::data
