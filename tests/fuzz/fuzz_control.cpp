// Any frames behind the handshake, to a server from a client that was let in, whose neighbour is
// here, and to a client from its server: both refuse or hang up, and go on.
#include <boost/asio/connect.hpp>
#include <boost/asio/use_future.hpp>
#include <numeric>

#include "fuzz/spoken.hpp"

using namespace fedctl;
using namespace fedctl::test;

namespace {

constexpr talk::PeerId kNeighbour = 0;  // of everyone
constexpr talk::PeerId kClients = 1024;

void add_control(Bytes& out, const Message& message) {
  ByteWriter(out).raw(wire::encode_frame(wire::FrameType::control, 0, message));
}

void to_server(ByteView bytes) {
  const auto star = [](talk::PeerId id) {
    std::vector<talk::PeerId> others{kNeighbour};
    if (id != kNeighbour) return others;
    others.resize(kClients - 1);
    std::iota(others.begin(), others.end(), kNeighbour + 1);
    return others;
  };
  // Both are there until the process ends: neither is told that the run is over.
  static Site& site = *new Site(kClients, 30, "", nullptr, 1 << 30, star);
  [[maybe_unused]] static auto& neighbour =
      *new Echoers(site.server->port(), {kNeighbour}, "right", nullptr,
                   {.has_neighbours = true, .neighbours = star(kNeighbour)});
  // Each comes seldom enough to be let in.
  static talk::PeerId turn = kNeighbour;
  turn = turn + 1 < kClients ? turn + 1 : kNeighbour + 1;
  Bytes all;
  add_control(all, Message("hello").with("client", turn));
  add_control(all, Message("ready").with("base", std::string("right")));
  ByteWriter(all).raw(bytes);
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  boost::system::error_code error;
  socket.connect({asio::ip::make_address("127.0.0.1"), site.server->port()}, error);
  if (error) return;  // as in fuzz_handshake
  speak(socket, all);
  const auto hear = [](TcpServer& server) -> Task<std::size_t> {
    co_return (co_await talk::drain(server)).size();
  };
  site.run(hear(*site.server));
}

void to_client(ByteView bytes, bool limited) {
  static asio::io_context io;
  static asio::ip::tcp::acceptor acceptor(io, {asio::ip::make_address("127.0.0.1"), 0});
  TcpClient::Options options;
  options.server = {"127.0.0.1", acceptor.local_endpoint().port()};
  options.id = kClients;  // above its neighbours, so that it calls none of them
  options.first_retry_s = options.later_retry_s = 0;
  if (limited) options.round_bytes_max = 400;
  options.prepare = [](const std::string&, std::int64_t) { return Message("ready"); };
  options.facts = [] {
    return TcpClient::PlanFacts{3, 1 << 20, true, {kNeighbour, kNeighbour + 1}};
  };
  options.notice = [](const std::string&) {};
  static asio::thread_pool pool(1);  // outlives the loop, as what the loop holds uses it
  static ClientLoop loop;
  TcpClient client(std::move(options), loop, pool.get_executor());
  client.start();
  std::future<void> conversation = asio::co_spawn(pool, echo(client), asio::use_future);
  asio::ip::tcp::socket socket(io);
  boost::system::error_code error;
  do {
    acceptor.accept(socket, error);
  } while (error == asio::error::interrupted);
  Bytes all;
  add_control(all, Message("plan").with("experiment", std::string("name: x")).with("idle_s", 5.0));
  add_control(all, Message("welcome"));
  ByteWriter(all).raw(bytes);
  speak(socket, all);
  client.stop();
  conversation.get();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView bytes = std::as_bytes(std::span(data + 1, size - 1));
  const Bytes spoken = (data[0] & 2) != 0 ? Bytes(bytes.begin(), bytes.end()) : frames_of(bytes);
  (data[0] & 1) != 0 ? to_client(spoken, (data[0] & 4) != 0) : to_server(spoken);
  return 0;
}
