// HOST:PORT as people write it.
#pragma once

#include <cstdint>
#include <string>

namespace fedctl::net {

struct Address {
  std::string host;
  std::uint16_t port = 0;
};

inline constexpr std::uint16_t kDefaultPort = 7143;

// "127.0.0.1:7143", "[::1]:0", "host", ":7143". Throws ConfigError naming `what` (the option or
// key).
Address parse_address(const std::string& text, const std::string& what);
// 127.0.0.0/8, ::1, localhost.
bool is_loopback(const std::string& host);

}  // namespace fedctl::net
