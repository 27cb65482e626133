#include <catch2/catch.hpp>

#include "base/limits.hpp"
#include "base/rng.hpp"
#include "net/site.hpp"

using namespace fedctl;
using namespace fedctl::test;

TEST_CASE("clients join, answer, and hear the end of the run", "[net]") {
  Site site(4);
  Echoers clients(site.server->port(), {0, 1, 2, 3});
  CHECK(site.run(ask_all(*site.server, 4, 5, 200'000)) == 20);
  site.server->finish("done");
  clients.join();
  for (const auto& client : clients.clients) {
    CHECK(client->failure() == nullptr);
    CHECK(client->end_status() == "done");
  }
  const talk::Crossing crossing = talk::total(site.ledger.take());
  CHECK(crossing.up.payload == 20 * 800'000);
  CHECK(crossing.down.payload == 20 * 800'000);
  CHECK(crossing.up.control > 0);
  CHECK(site.events("join") == 4);
  CHECK(site.events("leave") == 4);
}

TEST_CASE("another base model is refused, naming both values", "[net]") {
  Site site(1);
  Echoers clients(site.server->port(), {0}, "wrong");
  clients.join();
  REQUIRE(clients.clients[0]->failure());
  try {
    std::rethrow_exception(clients.clients[0]->failure());
  } catch (const ProtocolError& error) {
    CHECK_THAT(error.what(), Catch::Contains("the client has wrong, the server right"));
  }
  CHECK(site.events("refuse") == 1);
  site.server->finish("done");
}

TEST_CASE("an id outside the experiment is refused; nobody there is reported", "[net]") {
  Site site(2);
  const std::uint16_t port = site.server->port();
  {
    Echoers clients(port, {7});
    clients.join();
    CHECK_THROWS_WITH(std::rethrow_exception(clients.clients[0]->failure()),
                      Catch::Contains("7 is not in [0, 1]"));
  }
  site.server->finish("done");
  Echoers clients(port, {0});
  clients.join();
  CHECK_THROWS_WITH(std::rethrow_exception(clients.clients[0]->failure()),
                    Catch::Contains("cannot connect"));
}

TEST_CASE("the server hears a client go and come back", "[net]") {
  Site site(1);
  {
    Echoers clients(site.server->port(), {0});
    CHECK(site.run(await_events<talk::Joined>(*site.server, 1)) == 1);
    clients.clients[0]->stop();
    clients.join();
  }
  CHECK(site.run(await_events<talk::Lost>(*site.server, 1)) == 1);
  CHECK(site.server->peers().empty());
  Echoers again(site.server->port(), {0});
  CHECK(site.run(ask_all(*site.server, 1, 2, 10)) == 2);
  site.server->finish("done");
  again.join();
}

TEST_CASE("a client whose line broke before the end comes back to hear it", "[net]") {
  Site site(1);
  {
    Echoers clients(site.server->port(), {0});
    CHECK(site.run(await_events<talk::Joined>(*site.server, 1)) == 1);
    clients.clients[0]->stop();
    clients.join();
  }
  CHECK(site.run(await_events<talk::Lost>(*site.server, 1)) == 1);
  const auto begun = std::chrono::steady_clock::now();
  if (GENERATE(true, false)) {
    const auto ended = std::async(std::launch::async, [&] { site.server->finish("done"); });
    Echoers again(site.server->port(), {0});
    again.join();
    CHECK(again.clients[0]->end_status() == "done");
  } else {
    site.server->finish("interrupted");  // it tries for long by itself
  }
  const double waited_ms = to_ms(std::chrono::steady_clock::now() - begun);
  CHECK(waited_ms < limits::kGoodbyeMissedMs - 1'000);
}

TEST_CASE("garbage at the port is refused and disturbs nobody", "[net][hostile]") {
  Site site(1);
  const std::uint16_t port = site.server->port();
  Bytes noise(64 << 10);
  Rng rng(3);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(rng.next_u32());
  say(port, noise, false);

  Bytes claim = wire::encode_frame(wire::FrameType::control, 0, Message("hello"));
  const std::uint32_t huge = 0xffffffff;  // the largest claim a header can make
  std::memcpy(claim.data() + 4, &huge, sizeof huge);
  say(port, claim, false);

  const Bytes hello = wire::encode_frame(wire::FrameType::control, 0,
                                         Message("hello").with("client", std::int64_t{0}));
  say(port, ByteView(hello).first(hello.size() / 2), true);
  CHECK(say(port, hello, true) > 0);  // the plan came, then the client was gone

  Echoers clients(port, {0});
  CHECK(site.run(ask_all(*site.server, 1, 3, 10)) == 3);
  site.server->finish("done");
  clients.join();
  CHECK(site.events("refuse") == 4);
  CHECK(talk::total(site.ledger.take()).up.control > 0);
}

TEST_CASE("a half frame and then silence is dropped after the hello limit", "[net][hostile]") {
  Site site(1);
  const Bytes hello = wire::encode_frame(wire::FrameType::control, 0,
                                         Message("hello").with("client", std::int64_t{0}));
  const auto start = std::chrono::steady_clock::now();
  say(site.server->port(), ByteView(hello).first(10), false);
  const double waited_ms = to_ms(std::chrono::steady_clock::now() - start);
  CHECK(waited_ms > 0.9 * limits::kHandshakeHelloMs);
  CHECK(waited_ms < 3.0 * limits::kHandshakeHelloMs);
  site.server->finish("done");
  CHECK(site.events("refuse") == 1);
}

TEST_CASE("a peer that joined and fell silent is lost after idle_s", "[net]") {
  Site site(1, 0.6);
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  socket.connect({asio::ip::make_address("127.0.0.1"), site.server->port()});
  const auto send = [&](const Message& message) {
    const Bytes frame = wire::encode_frame(wire::FrameType::control, 0, message);
    asio::write(socket, asio::buffer(frame.data(), frame.size()));
  };
  send(Message("hello").with("client", std::int64_t{0}));
  send(Message("ready").with("base", std::string("right")));
  CHECK(site.run(await_events<talk::Joined>(*site.server, 1)) == 1);
  const auto start = std::chrono::steady_clock::now();
  CHECK(site.run(await_events<talk::Lost>(*site.server, 1)) == 1);
  CHECK(to_ms(std::chrono::steady_clock::now() - start) < 5'000);
  CHECK(site.events("suspect") == 1);
  site.server->finish("done");
}

TEST_CASE("idle clients stay connected by their heartbeat", "[net]") {
  Site site(2, 0.6);
  Echoers clients(site.server->port(), {0, 1});
  CHECK(site.run(await_events<talk::Joined>(*site.server, 2)) == 2);
  const auto quiet = [](TcpServer& server) -> Task<std::size_t> {
    const std::optional<talk::Envelope> envelope = co_await server.receive(in_s(2.0));
    co_return envelope ? 1 : 0;
  };
  CHECK(site.run(quiet(*site.server)) == 0);
  CHECK(site.run(ask_all(*site.server, 2, 1, 10)) == 2);
  CHECK(site.events("suspect") == 0);
  site.server->finish("done");
  clients.join();
}

TEST_CASE("what nobody takes is not read: the peer is held back, and not lost", "[net][hostile]") {
  Site site(1, 0.6, "", nullptr, 1 << 20);
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  socket.connect({asio::ip::make_address("127.0.0.1"), site.server->port()});
  const auto frame = [](wire::FrameType type, const Message& message) {
    return wire::encode_frame(type, type == wire::FrameType::data ? 1 : 0, message);
  };
  const std::vector<float> values(100'000);
  Bytes all = frame(wire::FrameType::control, Message("hello").with("client", std::int64_t{0}));
  ByteWriter(all).raw(
      frame(wire::FrameType::control, Message("ready").with("base", std::string("right"))));
  const Bytes update =
      frame(wire::FrameType::data, Message("echo").with("w", Tensor::of(values, {})));
  constexpr std::size_t kUpdates = 60;
  for (std::size_t i = 0; i < kUpdates; ++i) ByteWriter(all).raw(update);
  // 24 MB; the kernel's buffers hold less.
  std::future<void> writing = std::async(
      std::launch::async, [&] { asio::write(socket, asio::buffer(all.data(), all.size())); });
  CHECK(site.run(await_events<talk::Joined>(*site.server, 1)) == 1);
  // Longer than idle_s: 1 MiB is read, and one message more.
  CHECK(writing.wait_for(std::chrono::milliseconds(1500)) == std::future_status::timeout);
  CHECK(talk::total(site.ledger.take()).up.payload <= (1U << 20) + 4 * values.size());
  CHECK(site.run(await_events<Message>(*site.server, kUpdates)) == kUpdates);
  writing.get();
  CHECK(site.events("leave") == 0);
  socket.close();
  site.server->finish("done");
}

TEST_CASE("neighbours write to each other, and to nobody else", "[net][hostile]") {
  const auto pair_of = [](talk::PeerId id) {
    return id < 2 ? std::vector<talk::PeerId>{1 - id} : std::vector<talk::PeerId>{};
  };
  Site site(3, 30,
            std::filesystem::temp_directory_path() /
                ("fedctl-relay-" + std::to_string(::getpid()) + ".jsonl"),
            nullptr, 1 << 30, pair_of);
  TcpClient::PlanFacts facts;
  facts.neighbours = pair_of(0);
  Echoers clients(site.server->port(), {0}, "right", nullptr, facts);
  CHECK(site.run(await_events<talk::Joined>(*site.server, 1)) == 1);
  const auto tensor_of = [](const Bytes& bytes) {
    return Tensor{DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes};
  };
  const Bytes question = wire::encode_frame(
      wire::FrameType::data, 5, Message("say").with("w", Tensor::of(std::vector<float>{1}, {})));
  // Joins as `id`, sends these relays to client 0, and reads what comes until the kind of it.
  const auto joined = [&](std::int64_t id, const std::vector<Bytes>& frames, std::string until) {
    asio::io_context io;
    asio::ip::tcp::socket socket(io);
    socket.connect({asio::ip::make_address("127.0.0.1"), site.server->port()});
    const auto send = [&](const Message& message) {
      const Bytes frame = wire::encode_frame(wire::FrameType::control, 0, message);
      asio::write(socket, asio::buffer(frame.data(), frame.size()));
    };
    send(Message("hello").with("client", id));
    send(Message("ready").with("base", std::string("right")));
    for (const Bytes& frame : frames) {
      send(Message("relay").with("client", std::int64_t{0}).with("frame", tensor_of(frame)));
    }
    std::string heard;
    boost::system::error_code error;
    while (!error && (until.empty() || heard.find(until) == std::string::npos)) {
      std::array<char, 512> piece{};
      heard.append(piece.data(), socket.read_some(asio::buffer(piece), error));
    }
    return heard;
  };
  // Garbage is the writer's affair; the question behind it is answered.
  const std::string heard = joined(1, {Bytes(40), question}, "echo");
  CHECK(heard.find("neighbour") != std::string::npos);
  CHECK(heard.find("echo") != std::string::npos);
  // A stranger is hung up on.
  CHECK(joined(2, {question}, "").find("echo") == std::string::npos);
  CHECK(site.run(await_events<talk::Lost>(*site.server, 2)) == 2);
  CHECK(site.events("leave") == 2);
  CHECK(site.run(ask_all(*site.server, 1, 1, 10)) == 1);
  site.server->finish("done");
  clients.join();
  CHECK(clients.clients[0]->failure() == nullptr);
}

TEST_CASE("one id connects once", "[net]") {
  Site site(1);
  Echoers first(site.server->port(), {0});
  CHECK(site.run(await_events<talk::Joined>(*site.server, 1)) == 1);
  Echoers second(site.server->port(), {0});
  second.join();  // gives up after its second of trying
  CHECK_THROWS_WITH(std::rethrow_exception(second.clients[0]->failure()),
                    Catch::Contains("client 0 is already connected"));
  CHECK(site.run(ask_all(*site.server, 1, 1, 10)) == 1);
  site.server->finish("done");
  first.join();
}

TEST_CASE("a message that must not be interrupted: the coroutine sees Closed", "[net]") {
  Site site(3);
  site.server->interrupt();
  CHECK(site.run(await_events<talk::Closed>(*site.server, 1)) == 1);
  site.server->finish("interrupted");
}

TEST_CASE("addresses read as people write them", "[net]") {
  CHECK(parse_address("127.0.0.1:0", "x").port == 0);
  CHECK(parse_address("[::1]:9", "x").host == "::1");
  CHECK(parse_address("::1", "x").port != 0);
  CHECK(parse_address("host", "x").port == kDefaultPort);
  CHECK(parse_address(":81", "x").host == "127.0.0.1");
  CHECK_THROWS_WITH(parse_address("a:99999", "--listen"),
                    Catch::Contains("--listen is \"a:99999\""));
  CHECK(is_loopback("127.8.0.1"));
  CHECK(is_loopback("::1"));
  CHECK_FALSE(is_loopback("10.0.0.1"));
  CHECK_FALSE(is_loopback("0.0.0.0"));
}
