// HOST:PORT as people write it.
#pragma once

#include <boost/asio/ip/address.hpp>
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
// How far away an address is by its own account.
enum class Reach { nowhere, this_machine, this_link, this_site, anywhere };
// `nowhere`: nobody listens there, as on 0.0.0.0 or a multicast address.
Reach reach_of(const boost::asio::ip::address& address);
// 127.0.0.0/8, ::1, localhost.
bool is_loopback(const std::string& host);

}  // namespace fedctl::net
