#include "talk/inbox.hpp"

#include <algorithm>

namespace fedctl::talk {
namespace {

bool matches(const Envelope& envelope, PeerId from, const std::string& kind) {
  if (std::holds_alternative<Closed>(envelope.event)) return true;
  if (envelope.from != from) return false;
  const auto* message = std::get_if<Message>(&envelope.event);
  return message != nullptr ? message->kind == kind : std::holds_alternative<Lost>(envelope.event);
}

}  // namespace

Task<std::optional<Envelope>> Inbox::take(PeerId from, std::string kind, TimePoint until) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const Envelope& e) { return matches(e, from, kind); });
  if (found != waiting_.end()) {
    std::optional<Envelope> envelope(std::move(*found));
    waiting_.erase(found);
    co_return envelope;
  }
  while (true) {
    std::optional<Envelope> envelope = co_await net_.receive(until);
    if (!envelope || matches(*envelope, from, kind)) co_return envelope;
    if (waiting_.size() >= depth_max_) {
      throw ProtocolError("peer " + std::to_string(envelope->from) +
                          " fills the inbox: " + std::to_string(depth_max_) + " messages wait");
    }
    waiting_.push_back(std::move(*envelope));
  }
}

}  // namespace fedctl::talk
