#include "methods/method.hpp"

namespace fedctl::methods {

Task<void> RoundClient::run(Endpoint& net, ClientContext& ctx) {
  while (true) {
    const std::optional<talk::Envelope> envelope = co_await net.receive(kForever);
    if (!envelope || std::holds_alternative<talk::Closed>(envelope->event)) co_return;
    if (const auto* rejected = std::get_if<talk::Rejected>(&envelope->event)) {
      throw ProtocolError("the server's message cannot be read: " + rejected->reason);
    }
    if (const auto* task = std::get_if<Message>(&envelope->event)) {
      Work done = work(*task, ctx);
      net.spend(seconds(static_cast<double>(done.steps) * ctx.plan.step_ms * 1e-3));
      co_await talk::reply(net, *envelope, std::move(done.answer));
    }
  }
}

}  // namespace fedctl::methods
