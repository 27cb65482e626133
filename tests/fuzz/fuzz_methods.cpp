// Any message to any method, as a client hears it from its server and as a server inspects it: it
// is refused or taken, never more. Input: method u8, side u8 (odd: server), a message's encoding.
#include <boost/asio/io_context.hpp>

#include "support/play.hpp"

using namespace fedctl;
using namespace fedctl::methods;

namespace {

double bowl(PeerId, std::span<const float> w, std::span<float> slope) {
  double loss = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    if (!slope.empty()) slope[j] = w[j];
    loss += 0.5 * double{w[j]} * w[j];
  }
  return loss;
}

struct Nowhere final : RoundSink {
  bool commit(const RoundReport&, const ServerMethod&) override { return false; }
};

// A network with nobody in it.
struct Nobody final : Endpoint {
  std::vector<PeerId> peers() const override { return {}; }
  TimePoint now() const override { return {}; }
  void spend(Duration) override {}
  Task<void> send(PeerId, ExchangeId, SharedMessage) override { co_return; }
  Task<std::optional<talk::Envelope>> receive(TimePoint) override { co_return std::nullopt; }
};

// From a neighbour, then from the server.
Task<void> hear_both(RoundClient& client, const Message& message, ClientContext& context) {
  Nobody net;
  talk::Envelope envelope{1, 5, message};
  co_await client.heard(net, std::move(envelope), context);
  co_await client.work_with(net, message, context);
}

void hear(const MethodEntry& entry, bool server, const Message& message) {
  static const test::Problem toy(3, 8, bowl);
  test::Game game = toy.game(entry.kind.name);
  JobPlan& plan = game.plan;
  plan.rounds = 100;
  plan.train.steps = 2;
  plan.initial.assign(8, 0.5F);
  plan.secure.examples_max = 1;
  if (!server) {
    const auto client = entry.make_client(*game.method.options, plan);
    auto* const rounds = dynamic_cast<RoundClient*>(client.get());
    if (rounds == nullptr) return;
    ClientContext context{plan, 0, *game.learners, *game.data, game.shares[0], Rng(1)};
    rounds->global(message, context);
    boost::asio::io_context io;
    std::exception_ptr error;
    boost::asio::co_spawn(io, hear_both(*rounds, message, context),
                          [&error](std::exception_ptr failed) { error = failed; });
    io.run();
    if (error) std::rethrow_exception(error);
    rounds->load(rounds->save());
    return;
  }
  const auto method = entry.make_server(*game.method.options, plan);
  auto* const rounds = dynamic_cast<RoundServer*>(method.get());
  if (rounds == nullptr) return;
  std::vector<float> weights = plan.initial;
  static const auto aggregator = aggregate::aggregators().front().make(*game.aggregate.options);
  journal::Journal journal("", {"fuzz", "server", {}}, [] { return std::int64_t{0}; });
  Nowhere sink;
  Stragglers stragglers(false);
  ServerContext context{plan, weights,    *aggregator,    Rng(1), journal,
                        sink, stragglers, *game.learners, 1};
  rounds->instruct(1, 0, context);
  rounds->inspect(0, message, context);
  Replies replies;
  replies.emplace(0, message);
  rounds->merge(1, replies, context);
  method->load(method->save());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const MethodEntry& entry = methods::methods()[data[0] % methods::methods().size()];
  if (entry.kind.name == "meerkat") return 0;  // its mask needs public data; the rule is decomfl's
  try {
    hear(entry, data[1] % 2 == 1, wire::decode(std::as_bytes(std::span(data + 2, size - 2))));
  } catch (const Error&) {
  }
  return 0;
}
