#include "net/mailbox.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace fedctl::net {

namespace {
std::size_t bytes_of(const talk::Envelope& envelope) {
  const auto* message = std::get_if<talk::Message>(&envelope.event);
  return message != nullptr ? wire::payload_bytes(*message) : 0;
}
}  // namespace

std::size_t Mailbox::bytes() const {
  const std::scoped_lock lock(mutex_);
  return bytes_;
}

void Mailbox::push(talk::Envelope envelope) {
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) return;
    closed_ = std::holds_alternative<talk::Closed>(envelope.event);
    bytes_ += bytes_of(envelope);
    waiting_.push_back(std::move(envelope));
  }
  // Posted: receive() looks and starts to wait in one go on its executor, so no wake-up falls in
  // between.
  boost::asio::post(executor_, [self = shared_from_this()] { self->timer_.cancel(); });
}

std::optional<talk::Envelope> Mailbox::take() {
  const std::scoped_lock lock(mutex_);
  if (waiting_.empty()) return std::nullopt;
  talk::Envelope envelope = std::move(waiting_.front());
  bytes_ -= bytes_of(envelope);
  if (std::holds_alternative<talk::Closed>(envelope.event)) {
    waiting_.front() = envelope;  // stays for the next call
  } else {
    waiting_.pop_front();
  }
  return envelope;
}

talk::Task<std::optional<talk::Envelope>> Mailbox::receive(TimePoint until) {
  while (true) {
    std::optional<talk::Envelope> envelope = take();
    if (envelope || std::chrono::steady_clock::now() >= until) co_return envelope;
    timer_.expires_at(until);
    co_await timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  }
}

std::size_t Mailbox::messages_from(talk::PeerId peer) const {
  const std::scoped_lock lock(mutex_);
  return static_cast<std::size_t>(std::ranges::count_if(waiting_, [&](const auto& envelope) {
    return envelope.from == peer && std::holds_alternative<talk::Message>(envelope.event);
  }));
}

}  // namespace fedctl::net
