#include "net/mailbox.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace fedctl::net {

namespace {
bool is_message(const talk::Envelope& envelope) {
  return std::holds_alternative<talk::Message>(envelope.event) ||
         std::holds_alternative<talk::Rejected>(envelope.event);
}

std::size_t bytes_of(const talk::Envelope& envelope) {
  const auto* message = std::get_if<talk::Message>(&envelope.event);
  return message != nullptr ? wire::payload_bytes(*message) : 0;
}
}  // namespace

std::size_t Mailbox::messages_from(talk::PeerId peer) const {
  const std::scoped_lock lock(mutex_);
  const auto found = counts_.find(peer);
  return found == counts_.end() ? 0 : found->second.messages;
}

std::size_t Mailbox::bytes_from(talk::PeerId peer) const {
  const std::scoped_lock lock(mutex_);
  const auto found = counts_.find(peer);
  return found == counts_.end() ? 0 : found->second.bytes;
}

std::size_t Mailbox::waiting() const {
  const std::scoped_lock lock(mutex_);
  return waiting_.size();
}

std::size_t Mailbox::bytes_in_memory() const {
  const std::scoped_lock lock(mutex_);
  return bytes_in_memory_;
}

void Mailbox::push(talk::Envelope envelope) {
  const std::size_t bytes = bytes_of(envelope);
  enqueue(Waiting{std::move(envelope), bytes});
}

void Mailbox::push(talk::Envelope envelope, wire::StoredFrame stored, bool alone) {
  const std::size_t bytes = alone ? stored.bytes : bytes_of(envelope);
  if (!alone && bytes_in_memory() + bytes <= limits::kHeardBytesMax) {
    enqueue(Waiting{std::move(envelope), bytes});
    return;
  }
  envelope.event = talk::Message("");
  enqueue(Waiting{std::move(envelope), bytes, std::move(stored)});
}

void Mailbox::enqueue(Waiting waiting) {
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) return;
    closed_ = std::holds_alternative<talk::Closed>(waiting.envelope.event);
    if (is_message(waiting.envelope)) {
      Count& count = counts_[waiting.envelope.from];
      ++count.messages;
      count.bytes += waiting.bytes;
      if (!waiting.stored) bytes_in_memory_ += waiting.bytes;
    }
    waiting_.push_back(std::move(waiting));
    if (std::exchange(waking_, true)) return;
  }
  // Posted: receive() looks and starts to wait in one go on its executor, so no wake-up falls in
  // between.
  boost::asio::post(executor_, [self = shared_from_this()] {
    {
      const std::scoped_lock lock(self->mutex_);
      self->waking_ = false;
    }
    self->timer_.cancel();
  });
}

std::optional<Mailbox::Waiting> Mailbox::take() {
  const std::scoped_lock lock(mutex_);
  if (waiting_.empty()) return std::nullopt;
  if (std::holds_alternative<talk::Closed>(waiting_.front().envelope.event)) {
    return Waiting{waiting_.front().envelope};  // stays for the next call
  }
  Waiting next = std::move(waiting_.front());
  waiting_.pop_front();
  if (is_message(next.envelope)) {
    const auto count = counts_.find(next.envelope.from);
    count->second.bytes -= next.bytes;
    if (--count->second.messages == 0) counts_.erase(count);
    if (!next.stored) bytes_in_memory_ -= next.bytes;
  }
  return next;
}

bool Mailbox::fetch(Waiting& waiting) const {
  if (!waiting.stored) return true;
  try {
    waiting.envelope.event = waiting.stored->read();
    return true;
  } catch (const WireError& error) {
    if (fault_) fault_(waiting.envelope.from, error.what());
    return false;
  }
}

talk::Task<std::optional<talk::Envelope>> Mailbox::receive(TimePoint until) {
  while (true) {
    std::optional<Waiting> next = take();
    if (next && !fetch(*next)) continue;
    if (next) co_return std::move(next->envelope);
    if (std::chrono::steady_clock::now() >= until) co_return std::nullopt;
    timer_.expires_at(until);
    co_await timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  }
}

}  // namespace fedctl::net
