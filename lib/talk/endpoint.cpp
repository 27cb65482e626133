#include "talk/endpoint.hpp"

#include <set>

#include "base/errors.hpp"

namespace fedctl::talk {

namespace {

// Keeps the answer, or why not.
void take(PeerId from, Message answer, const Inspect& inspect, Answers& answers) {
  if (inspect) {
    if (const auto reason = refusal_of([&] { inspect(from, answer); })) {
      answers.rejected.emplace(from, *reason);
      return;
    }
  }
  answers.replies.emplace(from, std::move(answer));
}

}  // namespace

std::optional<std::string> refusal_of(const std::function<void()>& read) {
  try {
    read();
  } catch (const RunDirectoryError&) {
    throw;
  } catch (const Error& error) {
    return error.what();
  }
  return std::nullopt;
}

Task<Answers> ask(Endpoint& net, ExchangeId exchange, const Requests& requests, TimePoint until,
                  Inspect inspect) {
  Answers answers;
  answers.replies = room_for_replies(net);
  std::vector<PeerId>& open = answers.silent;
  for (const auto& [peer, request] : requests) {
    open.push_back(peer);
    co_await net.send(peer, exchange, request);
  }
  // The Lost of a peer that is not among peers() has been received already: none will follow.
  const std::vector<PeerId> present = net.peers();
  const std::set<PeerId> reachable(present.begin(), present.end());
  std::erase_if(open, [&](PeerId peer) {
    if (reachable.contains(peer)) return false;
    answers.lost.emplace(peer, "left before it was asked");
    return true;
  });
  co_await wait_longer(net, exchange, requests, until, answers, std::move(inspect));
  co_return answers;
}

Task<void> wait_longer(Endpoint& net, ExchangeId exchange, const Requests& requests,
                       TimePoint until, Answers& answers, Inspect inspect) {
  std::set<PeerId> open(answers.silent.begin(), answers.silent.end());
  while (!open.empty()) {
    std::optional<Envelope> envelope = co_await net.receive(until);
    if (!envelope) break;
    if (std::holds_alternative<Closed>(envelope->event)) {
      throw ProtocolError("the run was closed while answers were awaited");
    }
    const PeerId from = envelope->from;
    if (const auto* lost = std::get_if<Lost>(&envelope->event)) {
      if (open.erase(from) == 1) answers.lost.emplace(from, lost->reason);
    } else if (std::holds_alternative<Joined>(envelope->event)) {
      // Back without having been lost, as another process that knows nothing of the question.
      if (open.contains(from)) co_await net.send(from, exchange, requests.at(from));
    } else if (const auto* rejected = std::get_if<Rejected>(&envelope->event)) {
      if (envelope->exchange == exchange && open.erase(from) == 1) {
        answers.rejected.emplace(from, rejected->reason);
        answers.arrived.emplace(from, net.now());
      }
    } else if (auto* message = std::get_if<Message>(&envelope->event)) {
      if (envelope->exchange == exchange && open.erase(from) == 1) {
        take(from, std::move(*message), inspect, answers);
        answers.arrived.emplace(from, net.now());
      } else {
        answers.late.push_back({from, envelope->exchange, net.now()});
      }
    }
  }
  answers.silent.assign(open.begin(), open.end());
}

Task<std::vector<Envelope>> drain(Endpoint& net) {
  std::vector<Envelope> arrived;
  while (true) {
    std::optional<Envelope> envelope = co_await net.receive(net.now());
    if (!envelope) break;
    const bool closed = std::holds_alternative<Closed>(envelope->event);
    if (auto* message = std::get_if<Message>(&envelope->event)) message->tensors.clear();
    arrived.push_back(std::move(*envelope));
    if (closed) break;
  }
  co_return arrived;
}

Task<void> reply(Endpoint& net, const Envelope& request, Message answer) {
  const PeerId to = request.from;
  const ExchangeId exchange = request.exchange;
  co_await net.send(to, exchange, wire::share(std::move(answer)));
}

}  // namespace fedctl::talk
