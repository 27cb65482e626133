#include "methods/detail/conversation.hpp"

#include <algorithm>

#include "methods/detail/exchanges.hpp"

namespace fedctl::methods {
namespace {

// What the answer leads to; a fault in it is noted in `answers`.
std::optional<Message> follow(const talk::Envelope& envelope, const NextQuestion& next,
                              const talk::Inspect& inspect, std::int64_t step, TimePoint at,
                              talk::Answers& answers) {
  const auto reject = [&](const std::string& reason) {
    answers.rejected.emplace(envelope.from, reason);
    answers.arrived.emplace(envelope.from, at);
  };
  if (const auto* rejected = std::get_if<talk::Rejected>(&envelope.event)) {
    reject(rejected->reason);
    return std::nullopt;
  }
  const auto& answer = std::get<Message>(envelope.event);
  std::optional<Message> question;
  const auto reason = talk::refusal_of([&] {
    question = next(envelope.from, answer);
    if (question && step == kStepsMax) {
      throw ProtocolError("more than " + std::to_string(kStepsMax) + " answers in a round");
    }
    if (!question && inspect) inspect(envelope.from, answer);
  });
  if (reason) {
    reject(*reason);
    return std::nullopt;
  }
  if (question) return question;
  answers.replies.emplace(envelope.from, answer);
  answers.arrived.emplace(envelope.from, at);
  return std::nullopt;
}

}  // namespace

Task<talk::Answers> converse_each(Endpoint& net, Attempt attempt, const talk::Requests& requests,
                                  TimePoint until, NextQuestion next, talk::Inspect inspect) {
  talk::Answers answers;
  answers.replies = talk::room_for_replies(net);
  std::map<PeerId, std::int64_t> open;  // the step that has no answer yet
  for (const auto& [peer, request] : requests) {
    open.emplace(peer, 0);
    co_await net.send(peer, step_exchange(attempt, 0), request);
  }
  // The Lost of a peer that is not among peers() has been received already: none will follow.
  const std::vector<PeerId> present = net.peers();
  std::erase_if(open, [&](const auto& entry) {
    if (std::ranges::binary_search(present, entry.first)) return false;
    answers.lost.emplace(entry.first, "left before it was asked");
    return true;
  });
  while (!open.empty()) {
    std::optional<talk::Envelope> envelope = co_await net.receive(until);
    if (!envelope) break;
    if (std::holds_alternative<talk::Closed>(envelope->event)) {
      throw ProtocolError("the run was closed while answers were awaited");
    }
    const PeerId from = envelope->from;
    const auto at = open.find(from);
    if (const auto* lost = std::get_if<talk::Lost>(&envelope->event)) {
      if (at == open.end()) continue;
      answers.lost.emplace(from, lost->reason);
      open.erase(at);
    } else if (std::holds_alternative<talk::Joined>(envelope->event)) {
      if (at == open.end()) continue;
      if (at->second == 0) {
        co_await net.send(from, step_exchange(attempt, 0), requests.at(from));
        continue;
      }
      answers.lost.emplace(from, "came back as another process in the middle of the round");
      open.erase(at);
    } else if (at == open.end() || envelope->exchange != step_exchange(attempt, at->second)) {
      if (!std::holds_alternative<Message>(envelope->event)) continue;
      answers.late.push_back({from, envelope->exchange, net.now()});
    } else {
      std::optional<Message> question =
          follow(*envelope, next, inspect, at->second, net.now(), answers);
      if (!question) {
        open.erase(at);
        continue;
      }
      ++at->second;
      const ExchangeId exchange = step_exchange(attempt, at->second);
      co_await net.send(from, exchange, wire::share(std::move(*question)));
    }
  }
  for (const auto& [peer, step] : open) answers.silent.push_back(peer);
  co_return answers;
}

}  // namespace fedctl::methods
