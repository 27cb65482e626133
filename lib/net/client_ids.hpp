// Clients' numbers as people write them.
#pragma once

#include <string>
#include <vector>

#include "talk/endpoint.hpp"

namespace fedctl::net {

// "3", "0-7", "0-3,8": sorted, each once. Throws ConfigError naming `what`, the option it came
// from.
std::vector<talk::PeerId> parse_ids(const std::string& text, const std::string& what = "--ids");

}  // namespace fedctl::net
