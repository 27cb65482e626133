// Mailbox: envelopes from the network thread to the coroutine that works. The only place where the
// two meet, besides the send queue of a connection.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <mutex>
#include <optional>

#include "talk/endpoint.hpp"

namespace fedctl::net {

class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  // `executor` is a strand or a one-thread loop; receive() runs there.
  explicit Mailbox(boost::asio::any_io_executor executor) : executor_(executor), timer_(executor) {}

  // From any thread. After a Closed nothing more is taken.
  void push(talk::Envelope envelope);
  // The next envelope; nullopt when `until` has passed first; for ever Closed once Closed was
  // pushed and all before it taken.
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until);
  // Messages (not news) from this peer that nobody has taken yet.
  std::size_t messages_from(talk::PeerId peer) const;
  // Of all of them, their tensors.
  std::size_t bytes() const;

 private:
  std::optional<talk::Envelope> take();

  boost::asio::any_io_executor executor_;
  boost::asio::steady_timer timer_;  // touched on executor_ only
  mutable std::mutex mutex_;
  std::deque<talk::Envelope> waiting_;
  std::size_t bytes_ = 0;
  bool closed_ = false;
};

}  // namespace fedctl::net
