// Mailbox: envelopes from the network thread to the coroutine that works. The only place where the
// two meet, besides the send queue of a connection.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "talk/endpoint.hpp"
#include "wire/chunk.hpp"

namespace fedctl::net {

class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  // `executor` is a strand or a one-thread loop; receive() runs there.
  explicit Mailbox(boost::asio::any_io_executor executor) : executor_(executor), timer_(executor) {}

  // From any thread. After a Closed nothing more is taken.
  void push(talk::Envelope envelope);
  // A message that lies on disk, too or alone (`envelope` then holds none of its tensors): memory
  // has no more than limits::kHeardBytesMax of such.
  void push(talk::Envelope envelope, wire::StoredFrame stored, bool alone);
  // The next envelope; nullopt when `until` has passed first; for ever Closed once Closed was
  // pushed and all before it taken. Throws RunDirectoryError if one on disk cannot be read.
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until);
  // What receive() does with a message on disk that turns out to be none: it is left out.
  void on_fault(std::function<void(talk::PeerId, const std::string& why)> fault) {
    fault_ = std::move(fault);
  }
  // Messages (not news) from this peer, also such as cannot be read, that nobody has taken yet.
  std::size_t messages_from(talk::PeerId peer) const;
  // Their tensors.
  std::size_t bytes_from(talk::PeerId peer) const;
  // Envelopes of all peers.
  std::size_t waiting() const;
  // Tensors of all peers, as far as they are in memory.
  std::size_t bytes_in_memory() const;

 private:
  struct Waiting {
    talk::Envelope envelope;
    std::size_t bytes = 0;
    std::optional<wire::StoredFrame> stored = {};
  };
  struct Count {
    std::size_t messages = 0, bytes = 0;
  };
  void enqueue(Waiting waiting);
  std::optional<Waiting> take();
  // Reads it if it is on disk; false if it is no message.
  bool fetch(Waiting& waiting) const;

  boost::asio::any_io_executor executor_;
  boost::asio::steady_timer timer_;  // touched on executor_ only
  std::function<void(talk::PeerId, const std::string&)> fault_;
  mutable std::mutex mutex_;
  std::deque<Waiting> waiting_;
  std::unordered_map<talk::PeerId, Count> counts_;  // of peers with messages
  std::size_t bytes_in_memory_ = 0;
  bool closed_ = false;
  bool waking_ = false;  // a wake-up is under way
};

}  // namespace fedctl::net
