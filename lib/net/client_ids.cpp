#include "net/client_ids.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/limits.hpp"

namespace fedctl::net {
namespace {

talk::PeerId parse_id(std::string_view text, const std::string& whole, const std::string& what) {
  talk::PeerId value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 ||
      value >= limits::kClientsMax) {
    throw ConfigError(what + " is \"" + whole + "\", expected numbers and ranges",
                      "for example 0-7 or 0-3,8");
  }
  return value;
}

}  // namespace

std::vector<talk::PeerId> parse_ids(const std::string& text, const std::string& what) {
  std::vector<talk::PeerId> ids;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view part = std::string_view(text).substr(at, end - at);
    const std::size_t dash = part.find('-');
    const talk::PeerId first = parse_id(part.substr(0, dash), text, what);
    const talk::PeerId last =
        dash == std::string_view::npos ? first : parse_id(part.substr(dash + 1), text, what);
    if (last < first) {
      throw ConfigError(what + " is \"" + text + "\", a range must not fall", "for example 0-7");
    }
    for (talk::PeerId id = first; id <= last; ++id) ids.push_back(id);
    at = end + 1;
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace fedctl::net
