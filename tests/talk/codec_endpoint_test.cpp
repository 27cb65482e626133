#include "talk/codec_endpoint.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>
#include <deque>

using namespace fedctl;
using namespace fedctl::talk;

namespace {

// A server that the test plays.
class Server final : public Endpoint {
 public:
  std::vector<PeerId> peers() const override { return {kServer}; }
  TimePoint now() const override { return {}; }
  void spend(Duration) override {}
  Task<void> send(PeerId, ExchangeId, SharedMessage) override { co_return; }
  Task<std::optional<Envelope>> receive(TimePoint) override {
    Envelope envelope = std::move(asks.front());
    asks.pop_front();
    co_return envelope;
  }
  std::deque<Envelope> asks;
};

void run(Task<void> task) {
  boost::asio::io_context io;
  boost::asio::co_spawn(io, std::move(task), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.run();
}

CodecEndpoint::Options topk_with_ef14() {
  CodecEndpoint::Options options;
  options.out = [](codec::Blocks blocks) {
    return codec::make_chain({config::make_plugin(codec::codec_kinds(), "topk", {{"ratio", 0.25}})},
                             "ef14", blocks);
  };
  options.in = [](codec::Blocks) { return std::unique_ptr<codec::Codec>(); };
  options.out_has_state = true;
  options.layout.add("w", "all", {4});
  return options;
}

struct Client {
  Server server;
  CodecEndpoint net{server, topk_with_ef14()};

  void answer(ExchangeId exchange, const std::vector<float>& values) {
    run(net.send(kServer, exchange,
                 wire::share(Message("update").with("delta", Tensor::of(values, {})))));
  }
  // A question that says so arrives.
  void hear(ExchangeId exchange, std::int64_t unused) {
    server.asks.push_back({kServer, exchange, Message("train").with(kUnused, unused)});
    std::optional<Envelope> heard;
    run([](Client& self, std::optional<Envelope>& into) -> Task<void> {
      into = co_await self.net.receive(kForever);
    }(*this, heard));
    REQUIRE(std::holds_alternative<Message>(heard->event));
  }
  std::vector<float> residual() const {
    const auto all = net.save();
    const auto values = all.at(kServer).tensors.at("out/delta").f32();
    return {values.begin(), values.end()};
  }
};

}  // namespace

TEST_CASE("an answer that was not used is taken back, once, and no other", "[talk]") {
  Client client;
  client.answer(1, {4, 3, 2, 1});
  CHECK(client.residual() == std::vector<float>{0, 3, 2, 1});
  client.hear(2, 7);  // another one: nothing is to be done
  CHECK(client.residual() == std::vector<float>{0, 3, 2, 1});

  // The next process of this client knows it, too.
  Client next;
  next.net.load(kServer, client.net.save().at(kServer));
  for (Client* one : {&client, &next}) {
    one->hear(2, 1);
    CHECK(one->residual() == std::vector<float>{4, 3, 2, 1});
    one->hear(3, 1);
    CHECK(one->residual() == std::vector<float>{4, 3, 2, 1});
  }
  CHECK(client.net.save() == next.net.save());

  Message damaged = client.net.save().at(kServer);
  damaged.scalars.emplace("sent", std::int64_t{1});
  damaged.tensors.emplace("sent/other", Tensor{DType::coded, {4}, Bytes(3)});
  CHECK_THROWS_AS(next.net.load(kServer, damaged), WireError);
}
