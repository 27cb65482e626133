// What the server knows of one connection.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/detail/progress.hpp"
#include "net/server.hpp"

namespace fedctl::net {

namespace detail {
// The ledger's key for bytes of connections that never said who they are.
inline constexpr talk::PeerId kStranger = -2;
// To hear the last word.
inline constexpr auto kGoodbye = std::chrono::seconds(2);

// Not this time, but the client may try again.
struct TryAgain : ProtocolError {
  using ProtocolError::ProtocolError;
};
}  // namespace detail

struct TcpServer::Session {
  std::shared_ptr<Connection> connection;
  talk::PeerId peer = detail::kStranger;
  bool joined = false, left = false;
  Progress have;                         // of a question, when it joined
  std::vector<talk::PeerId> neighbours;  // ascending
  std::int64_t listens = 0;              // the port on which its neighbours reach it; 0: none
  std::string address() const {
    return connection->remote().substr(0, connection->remote().rfind(':'));
  }
};

}  // namespace fedctl::net
