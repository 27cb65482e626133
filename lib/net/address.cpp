#include "net/address.hpp"

#include <boost/asio/ip/address.hpp>
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

bool is_loopback(const std::string& host) {
  if (host == "localhost") return true;
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(host, error);
  return !error && address.is_loopback();
}

}  // namespace fedctl::net
