// Lines into cells. RFC 4180, read leniently in two places: a quote inside a cell that does not
// begin with one is a letter, and a record may end with a line feed alone.
#include <algorithm>

#include "base/limits.hpp"
#include "data/detail/table_file.hpp"

namespace fedctl::data {
namespace {

// The quoted cell whose opening quote stands at `at`. Returns what is wrong, or "".
std::string read_quoted(std::string_view bytes, std::size_t& at, std::size_t& lines,
                        std::string& cell) {
  ++at;
  std::size_t inside = 0;
  while (true) {
    const std::size_t quote = bytes.find('"', at);
    if (quote == std::string_view::npos) {
      return "a quote that is opened here is not closed, within " +
             std::to_string(limits::kJsonlLineBytesMax) + " bytes of the record";
    }
    const std::string_view piece = bytes.substr(at, quote - at);
    inside += static_cast<std::size_t>(std::ranges::count(piece, '\n'));
    cell += piece;
    at = quote + 1;
    if (at >= bytes.size() || bytes[at] != '"') break;
    cell += '"';
    ++at;
  }
  lines += inside;
  if (at >= bytes.size() || bytes[at] == ',' || bytes[at] == '\n' ||
      bytes.substr(at, 2) == "\r\n" || bytes.substr(at) == "\r")
    return "";
  return "a letter behind a closing quote, expected a comma";
}

}  // namespace

std::string split_csv(std::string_view bytes, std::size_t& at, std::size_t& lines,
                      std::vector<std::string>& cells) {
  const std::string_view whole = bytes;
  bytes = bytes.substr(0, at + std::min(bytes.size() - at, limits::kJsonlLineBytesMax + 1));
  while (true) {
    if (cells.size() == kTableColumnsMax)
      return "more than " + std::to_string(kTableColumnsMax) + " columns";
    std::string& cell = cells.emplace_back();
    if (at < bytes.size() && bytes[at] == '"') {
      if (std::string fault = read_quoted(bytes, at, lines, cell); !fault.empty()) return fault;
    } else {
      const std::size_t end = std::min(bytes.find_first_of(",\n", at), bytes.size());
      std::size_t last = end;
      if ((end == bytes.size() || bytes[end] == '\n') && end > at && bytes[end - 1] == '\r') --last;
      cell = bytes.substr(at, last - at);
      at = end;
    }
    if (at < bytes.size() && bytes[at] == ',') {
      ++at;
      continue;
    }
    at = std::min(whole.find('\n', at), whole.size() - 1) + 1;
    return "";
  }
}

void split_tsv(std::string_view line, std::vector<std::string>& cells) {
  while (true) {
    const std::size_t tab = line.find('\t');
    cells.emplace_back(line.substr(0, tab));
    if (tab == std::string_view::npos || cells.size() > kTableColumnsMax) return;
    line.remove_prefix(tab + 1);
  }
}

}  // namespace fedctl::data
