// DirectLinks: a client's own connections to its neighbours, as the server introduces them
// (docs/protocol.md, "Neighbours"). Who has none is reached by way of the server. Lives on the
// network thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/limits.hpp"
#include "net/connection.hpp"
#include "net/detail/bucket.hpp"

namespace fedctl::net {

class DirectLinks : public std::enable_shared_from_this<DirectLinks> {
 public:
  struct Options {
    talk::PeerId id = 0;
    std::shared_ptr<Credentials> greet, call;  // roles server and caller; null: plaintext
    Duration idle{};
    std::size_t frame_bytes_max = limits::kFrameBytesMax;
    // A message of a neighbour. Throws Error to hang up.
    std::function<void(talk::PeerId, Received)> heard;
    // The link is gone: what was sent last may not have arrived.
    std::function<void(talk::PeerId)> lost;
    Connection::Count count;
  };
  DirectLinks(Options options, boost::asio::io_context& io);

  // Returns the port. Throws boost::system::system_error.
  std::uint16_t listen(const boost::asio::ip::address& address);
  // The neighbour listens there; both have heard the same ticket. The lower id calls.
  void introduce(talk::PeerId neighbour, boost::asio::ip::tcp::endpoint place, std::string ticket);
  bool has(talk::PeerId neighbour) const { return links_.contains(neighbour); }
  // False: there is no link.
  bool send(talk::PeerId neighbour, talk::SharedFrame frame);
  void stop();

 private:
  struct Introduction {
    boost::asio::ip::tcp::endpoint place;
    std::string ticket;
    Bucket calls{limits::kCallsAtOnce, limits::kCallsPerSecond};
    bool calling = false;
  };
  talk::Task<void> accept_loop();
  talk::Task<void> greet(std::shared_ptr<Connection> connection);
  talk::Task<void> call(talk::PeerId neighbour);
  // One try; null: in vain.
  talk::Task<std::shared_ptr<Connection>> call_once(talk::PeerId neighbour);
  talk::Task<void> converse(talk::PeerId neighbour, std::shared_ptr<Connection> connection);
  std::shared_ptr<Connection> make(boost::asio::ip::tcp::socket socket,
                                   const std::shared_ptr<Credentials>& tls);
  bool knows(talk::PeerId neighbour, const std::string& ticket) const;
  void require_name(Connection& connection, talk::PeerId neighbour) const;

  Options options_;
  boost::asio::io_context& io_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::map<talk::PeerId, Introduction> introduced_;
  std::map<talk::PeerId, std::shared_ptr<Connection>> links_;
  std::size_t strangers_ = 0;  // have not said who they are
  bool stopping_ = false;
};

}  // namespace fedctl::net
