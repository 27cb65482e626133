#include "data/detail/table_bytes.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include "base/errors.hpp"
#include "data/detail/file.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kUnpackedBytesMax = std::uint64_t{1} << 30;

// Bytes of the character that `text` begins with; 0 if it is no UTF-8.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  // Neither longer than need be, nor half a pair, nor behind the last character.
  const unsigned char second = byte(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
      (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
    return 0;
  return size;
}

}  // namespace

FileBytes::FileBytes(const std::string& path) {
  const std::vector<std::uint8_t> head =
      read_up_to(path, 1);  // also says what is absent or damaged
  if (head.empty()) throw DataError(path + ": empty", "is it the file that was meant?");
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  unsigned char magic[2] = {};
  if (file < 0 || ::fstat(file, &status) != 0 || ::pread(file, magic, 2, 0) < 0) {
    if (file >= 0) ::close(file);
    throw DataError(path + ": cannot be read", "check permissions");
  }
  if (magic[0] == 0x1f && magic[1] == 0x8b) {
    ::close(file);
    owned_ = read_file(path, kUnpackedBytesMax);
    return;
  }
  mapped_bytes_ = static_cast<std::size_t>(status.st_size);
  void* mapped = ::mmap(nullptr, mapped_bytes_, PROT_READ, MAP_PRIVATE, file, 0);
  ::close(file);
  if (mapped == MAP_FAILED) throw DataError(path + ": cannot be mapped", "is it on a usual disk?");
  mapped_ = static_cast<const char*>(mapped);
}

FileBytes::FileBytes(FileBytes&& other) noexcept
    : owned_(std::move(other.owned_)),
      mapped_(std::exchange(other.mapped_, nullptr)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}

FileBytes::~FileBytes() {
  if (mapped_ != nullptr) ::munmap(const_cast<char*>(mapped_), mapped_bytes_);
}

std::string_view FileBytes::view() const {
  if (mapped_ != nullptr) return {mapped_, mapped_bytes_};
  return {reinterpret_cast<const char*>(owned_.data()), owned_.size()};
}

std::string text_fault(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    // Eight plain bytes at once: no high bit, and no zero byte.
    if (text.size() - at >= 8) {
      std::uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      constexpr std::uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080;
      if (((word | ((word - kOnes) & ~word)) & kHighs) == 0) {
        at += 8;
        continue;
      }
    }
    if (text[at] == '\0') return "a NUL byte, at byte " + std::to_string(at) + " of it";
    const std::size_t size = character_bytes(text.substr(at));
    if (size == 0) return "not UTF-8, at byte " + std::to_string(at) + " of it";
    at += size;
  }
  return "";
}

}  // namespace fedctl::data
