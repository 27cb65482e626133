// What exact match compares of an answer.
#include "data/dataset.hpp"

namespace fedctl::data {

std::string answer_in(std::string_view text, std::string_view marker) {
  constexpr const char* kSpace = " \t\r\n";
  if (!marker.empty()) {
    const std::size_t at = text.rfind(marker);
    if (at != std::string_view::npos) text.remove_prefix(at + marker.size());
  }
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(kSpace) + 1 - first));
}

}  // namespace fedctl::data
