// Links between clients: introduction, strangers, and what happens when one breaks.
#include "net/direct.hpp"

#include <catch2/catch.hpp>

#include "net/site.hpp"

using namespace fedctl;
using namespace fedctl::test;

namespace {

// A side of the link, and what it has heard.
struct Side {
  Side(asio::io_context& io, talk::PeerId id) {
    DirectLinks::Options options;
    options.id = id;
    options.idle = seconds(30);
    options.heard = [this](talk::PeerId from, Received received) {
      heard.push_back(std::to_string(from) + ' ' + received.message.kind);
    };
    options.lost = [this](talk::PeerId) { ++lost; };
    options.count = [this](Way, const talk::Traffic& traffic, Crossed) { bytes += traffic.sum(); };
    links = std::make_shared<DirectLinks>(std::move(options), io);
    place = {asio::ip::make_address("127.0.0.1"), 0};
    place.port(links->listen(place.address()));
  }
  std::shared_ptr<DirectLinks> links;
  asio::ip::tcp::endpoint place;
  std::vector<std::string> heard;
  int lost = 0;
  std::uint64_t bytes = 0;
};

// Runs until `done`, for 10 s at most.
bool run_until(asio::io_context& io, const std::function<bool()>& done) {
  const TimePoint until = in_s(10);
  while (!done() && std::chrono::steady_clock::now() < until) {
    io.run_one_for(std::chrono::milliseconds(100));
  }
  return done();
}

}  // namespace

TEST_CASE("neighbours that were introduced have a link, strangers do not", "[net][hostile]") {
  asio::io_context io;
  Side low(io, 3), high(io, 8);
  // The called one hears of it last: the caller tries again.
  low.links->introduce(8, high.place, "a ticket");
  run_until(io, [&] { return high.bytes > 0; });
  high.links->introduce(3, low.place, "a ticket");
  REQUIRE(run_until(io, [&] { return low.links->has(8) && high.links->has(3); }));

  const talk::SharedFrame small = talk::make_frame(1, Message("small"));
  const talk::SharedFrame large = talk::make_frame(
      2, Message("large").with("w", Tensor::of(std::vector<float>(200'000), {})), true);
  REQUIRE(large->chunks > 1);
  CHECK(low.links->send(8, small));
  CHECK(low.links->send(8, large));
  CHECK(high.links->send(3, small));
  CHECK_FALSE(high.links->send(4, small));
  CHECK(run_until(io, [&] { return high.heard.size() == 2 && low.heard.size() == 1; }));
  CHECK(high.heard == std::vector<std::string>{"3 small", "3 large"});

  // A wrong ticket, another's number, nonsense: hung up, and the link stands.
  for (const auto& [id, ticket] : {std::pair(3, "no ticket"), std::pair(5, "a ticket")}) {
    const Bytes hello = wire::encode_frame(
        wire::FrameType::control, 0,
        Message("hello").with("client", std::int64_t{id}).with("ticket", std::string(ticket)));
    std::future<std::size_t> answer =
        std::async(std::launch::async, [&] { return say(high.place.port(), hello, false); });
    CHECK(run_until(
        io, [&] { return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }));
    CHECK(answer.get() == 0);
  }
  CHECK(high.links->has(3));

  low.links->stop();
  CHECK(run_until(io, [&] { return !high.links->has(3); }));
  CHECK(high.lost == 1);
  CHECK(low.lost == 0);
  CHECK_FALSE(high.links->send(3, small));
  high.links->stop();
  io.run_for(std::chrono::milliseconds(100));
}
