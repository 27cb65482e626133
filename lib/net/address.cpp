#include "net/address.hpp"

#include <charconv>

#include "base/errors.hpp"

namespace fedctl::net {

Address parse_address(const std::string& text, const std::string& what) {
  Address address{"127.0.0.1", kDefaultPort};
  std::string host = text, port;
  const bool bracketed = text.starts_with('[');
  std::size_t colon = bracketed ? text.find("]:") : text.find(':');
  if (!bracketed && colon != text.rfind(':')) colon = std::string::npos;  // a bare IPv6 address
  if (colon != std::string::npos) {
    host = text.substr(0, colon + (bracketed ? 1 : 0));
    port = text.substr(colon + (bracketed ? 2 : 1));
    unsigned number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc{} || end != port.data() + port.size() || number > 65535) {
      throw ConfigError(
          what + " is \"" + text + "\", expected HOST:PORT with a port from 0 to 65535",
          "for example 127.0.0.1:7143");
    }
    address.port = static_cast<std::uint16_t>(number);
  }
  if (bracketed && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (!host.empty()) address.host = host;
  return address;
}

Reach reach_of(const boost::asio::ip::address& address) {
  namespace ip = boost::asio::ip;
  if (address.is_unspecified() || address.is_multicast()) return Reach::nowhere;
  if (address.is_loopback()) return Reach::this_machine;
  if (address.is_v6()) {
    const ip::address_v6 v6 = address.to_v6();
    if (v6.is_v4_mapped()) return reach_of(ip::make_address_v4(ip::v4_mapped, v6));
    if (v6.is_link_local()) return Reach::this_link;
    const bool unique_local = (v6.to_bytes()[0] & 0xfe) == 0xfc;
    return unique_local || v6.is_site_local() ? Reach::this_site : Reach::anywhere;
  }
  const std::uint32_t v4 = address.to_v4().to_uint();
  const auto within = [v4](std::uint32_t net, int bits) { return (v4 ^ net) >> (32 - bits) == 0; };
  if (within(0, 8) || within(0xf0000000, 4)) return Reach::nowhere;
  if (within(0xa9fe0000, 16)) return Reach::this_link;
  // RFC 1918, and RFC 6598: behind a provider's own translation.
  const bool site = within(0x0a000000, 8) || within(0xac100000, 12) || within(0xc0a80000, 16) ||
                    within(0x64400000, 10);
  return site ? Reach::this_site : Reach::anywhere;
}

bool is_loopback(const std::string& host) {
  if (host == "localhost") return true;
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(host, error);
  return !error && address.is_loopback();
}

}  // namespace fedctl::net
