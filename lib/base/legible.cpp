#include "base/legible.hpp"

#include <cstdint>

namespace fedctl {
namespace {

std::uint32_t point_of(std::string_view sequence) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 1) return byte(0);
  std::uint32_t point = byte(0) & (0x7fu >> sequence.size());
  for (std::size_t i = 1; i < sequence.size(); ++i) point = (point << 6) | (byte(i) & 0x3fu);
  return point;
}

// C0, DEL and C1; line and paragraph separators; marks, embeddings and isolates of direction.
bool is_unseen(std::uint32_t point) {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c || point == 0x200e ||
         point == 0x200f || (point >= 0x2028 && point <= 0x202e) ||
         (point >= 0x2066 && point <= 0x2069);
}

}  // namespace

std::size_t sequence_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t count = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (count == 0 || first > 0xf4 || text.size() < count) return 0;
  for (std::size_t i = 1; i < count; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const std::uint32_t point = point_of(text.substr(0, count));
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xd800 && point <= 0xdfff;
  return point >= kLeast[count] && point <= 0x10ffff && !surrogate ? count : 0;
}

std::string legible(std::string_view text, std::size_t bytes_max) {
  std::string line;
  while (!text.empty()) {
    const std::size_t bytes = sequence_bytes(text);
    const std::string_view sequence = text.substr(0, bytes == 0 ? 1 : bytes);
    if (line.size() + sequence.size() > bytes_max) return line + "...";
    const char c = text.front();
    if (c == '\n' || c == '\t' || c == '\r') {
      line += ' ';
    } else if (bytes == 0 || is_unseen(point_of(sequence))) {
      line += '?';
    } else {
      line += sequence;
    }
    text.remove_prefix(sequence.size());
  }
  return line;
}

std::string printable(std::string_view text) {
  std::string shown;
  while (true) {
    const std::size_t end = text.find('\n');
    shown += legible(text.substr(0, end), std::string::npos);
    if (end == std::string_view::npos) return shown;
    shown += '\n';
    text.remove_prefix(end + 1);
  }
}

}  // namespace fedctl
