// What one peer may cost the other side, in memory, on disk and in descriptors.
#include <catch2/catch.hpp>
#include <set>

#include "net/allowance.hpp"
#include "net/site.hpp"

using namespace fedctl;
using namespace fedctl::test;

namespace {

Bytes control(const Message& message) {
  return wire::encode_frame(wire::FrameType::control, 0, message);
}

// A client that says what it likes.
class Peer {
 public:
  Peer(std::uint16_t port, std::int64_t id) : socket_(io_) {
    socket_.connect({asio::ip::make_address("127.0.0.1"), port});
    send(control(Message("hello").with("client", id)));
    send(control(Message("ready").with("base", std::string("right"))));
  }
  void send(ByteView bytes) {
    boost::system::error_code error;
    asio::write(socket_, asio::buffer(bytes.data(), bytes.size()), error);
  }
  // The first control frame of one of these kinds, as it is; nullopt if the server hangs up before.
  std::optional<Message> hear(const std::vector<std::string>& kinds) {
    while (true) {
      boost::system::error_code error;
      std::array<std::byte, wire::kHeaderBytes> raw{};
      asio::read(socket_, asio::buffer(raw), error);
      if (error) return std::nullopt;
      const wire::Header header = wire::decode_header(raw, 1 << 20);
      Bytes body(header.body_bytes);
      asio::read(socket_, asio::buffer(body), error);
      if (error) return std::nullopt;
      Message message = wire::decode_body(header, raw, body);
      for (const std::string& kind : kinds) {
        if (message.kind == kind) return message;
      }
    }
  }
  // The exchanges of the data frames, in chunks or not, up to this one; without it if the server
  // hangs up before.
  std::set<talk::ExchangeId> questions_until(talk::ExchangeId last) {
    std::set<talk::ExchangeId> heard;
    while (!heard.contains(last)) {
      boost::system::error_code error;
      std::array<std::byte, wire::kHeaderBytes> raw{};
      asio::read(socket_, asio::buffer(raw), error);
      if (error) break;
      const wire::Header header = wire::decode_header(raw, 1 << 20);
      Bytes body(header.body_bytes);
      asio::read(socket_, asio::buffer(body), error);
      if (error) break;
      if (header.type != wire::FrameType::control) heard.insert(header.exchange);
    }
    return heard;
  }
  bool joined() { return hear({"welcome", "refuse"}).value_or(Message("")).kind == "welcome"; }

 private:
  asio::io_context io_;
  asio::ip::tcp::socket socket_;
};

std::filesystem::path journal_of(const std::string& name) {
  return std::filesystem::temp_directory_path() /
         ("fedctl-" + name + '-' + std::to_string(::getpid()) + ".jsonl");
}

// Waits for the next Lost; its reason.
Task<std::string> next_lost(TcpServer& server) {
  while (true) {
    const std::optional<talk::Envelope> envelope = co_await server.receive(in_s(20));
    if (!envelope) co_return "nobody is lost";
    if (const auto* lost = std::get_if<talk::Lost>(&envelope->event)) co_return lost->reason;
  }
}

talk::SharedFrame frame_of(talk::ExchangeId exchange) {
  return talk::make_frame(exchange, Message("say"));
}

}  // namespace

TEST_CASE("to a peer that does not read only the newest waits", "[net][hostile]") {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::make_address("127.0.0.1"), 0});
  asio::ip::tcp::socket near(io);
  near.connect(acceptor.local_endpoint());
  asio::ip::tcp::socket far = acceptor.accept();
  const auto connection = std::make_shared<Connection>(std::move(near), TlsSettings{},
                                                       [](Way, const talk::Traffic&, Crossed) {});
  for (talk::ExchangeId exchange = 1; exchange <= 100; ++exchange) {
    connection->queue_control(Message("pong"), slots::kPong);
    connection->queue(frame_of(exchange), 0, slots::kQuestion);
    connection->queue_control(Message("relay"), slots::relay_by(3), 4);
  }
  connection->queue_control(Message("end"));
  CHECK(connection->queued() == 1 + 1 + 4 + 1);
  CHECK(connection->data_queued() == 1);

  // What has begun is not taken back: a frame that the kernel cannot take as a whole.
  connection->queue(
      talk::make_frame(7, Message("say").with("w", Tensor::zeros(DType::f32, {4 << 20})), true), 0,
      slots::kQuestion);
  asio::co_spawn(io, connection->write_loop(), [](std::exception_ptr) {});
  while (connection->data_queued() > 0 && connection->queued() > 1) io.run_one();
  io.run_for(std::chrono::milliseconds(100));
  REQUIRE(connection->queued() == 1);
  connection->queue(frame_of(8), 0, slots::kQuestion);
  connection->queue(frame_of(9), 0, slots::kQuestion);
  CHECK(connection->queued() == 2);
  connection->close("enough");
  io.run();
}

TEST_CASE("a client that does not read gets the question of now", "[net][hostile]") {
  Site site(1, 30, "");
  Peer peer(site.server->port(), 0);
  CHECK(peer.joined());
  constexpr talk::ExchangeId kQuestions =
      60;  // 240 MB; the kernel's buffers hold less than a tenth
  const talk::SharedMessage question =
      wire::share(Message("say").with("w", Tensor::zeros(DType::f32, {1 << 20})));
  const auto ask = [&question](TcpServer& server) -> Task<bool> {
    for (talk::ExchangeId exchange = 1; exchange <= kQuestions; ++exchange) {
      co_await server.send(0, exchange, question);
    }
    co_return true;
  };
  CHECK(site.run(ask(*site.server)));
  const std::set<talk::ExchangeId> heard = peer.questions_until(kQuestions);
  CHECK(heard.contains(kQuestions));
  CHECK(heard.size() < kQuestions / 4);
  site.server->finish("done");
}

TEST_CASE("a peer's words are cut, and harmless to a terminal", "[net][hostile]") {
  const auto path = journal_of("words");
  Site site(2, 30, path);
  const std::string evil = "\x1b]0;owned\x07\x1b[2J\n" + std::string(7000, 'x');
  {
    Peer peer(site.server->port(), 0);
    CHECK(peer.joined());
    peer.send(control(Message("leave").with("reason", evil)));
    const std::string reason = site.run(next_lost(*site.server));
    CHECK(reason.starts_with("left: ?]0;owned??[2J xxx"));
    CHECK(reason.size() < 600);
  }
  {
    // The longest text that a message may hold: once "left: " was too much for it.
    Peer peer(site.server->port(), 1);
    CHECK(peer.joined());
    peer.send(control(Message("leave").with("reason", std::string(limits::kTextBytesMax, 'x'))));
    CHECK_THAT(site.run(next_lost(*site.server)), Catch::Contains("frame claims"));
  }
  Peer peer(site.server->port(), 0);
  CHECK(peer.joined());
  // A kind and names stand in errors, too.
  peer.send(wire::encode_frame(wire::FrameType::data, 1, Message("\x1b[2J")));
  CHECK_THAT(site.run(next_lost(*site.server)), Catch::Contains("not legible: ?[2J"));
  site.server->finish("done");
}

TEST_CASE("a control frame is short, once one is let in", "[net][hostile]") {
  Site site(1, 30, "");
  Peer peer(site.server->port(), 0);
  CHECK(peer.joined());
  Bytes header = control(Message("ping"));
  const std::uint32_t claim = 4 << 20;  // as a data frame may be
  std::memcpy(header.data() + 4, &claim, sizeof claim);
  peer.send(header);
  CHECK_THAT(site.run(next_lost(*site.server)), Catch::Contains("at most 8192"));
  site.server->finish("done");
}

TEST_CASE("messages that nobody asked for are so many, over all connections", "[net][hostile]") {
  Site site(1, 30, "");
  const Bytes late = wire::encode_frame(wire::FrameType::data, 999, Message("late"));
  const auto send = [&](int count) {
    Peer peer(site.server->port(), 0);
    CHECK(peer.joined());
    for (int i = 0; i < count; ++i) peer.send(late);
    CHECK(site.run(await_events<Message>(*site.server, static_cast<std::size_t>(count))) ==
          static_cast<std::size_t>(count));
  };
  for (int i = 0; i < 4; ++i) send(limits::kUnaskedMax / 4);
  Peer peer(site.server->port(), 0);
  CHECK(peer.joined());
  peer.send(late);
  std::string why;
  // Behind those who went by themselves.
  while (why.find("asked") == std::string::npos && why != "nobody is lost") {
    why = site.run(next_lost(*site.server));
  }
  CHECK_THAT(why, Catch::Contains("without being asked"));
  // Questions are answered all the time.
  Echoers clients(site.server->port(), {0});
  CHECK(site.run(ask_all(*site.server, 1, 100, 1)) == 100);
  site.server->finish("done");
  clients.join();
}

TEST_CASE("one that comes and goes has to wait, and the others do not", "[net][hostile]") {
  const auto path = journal_of("churn");
  Site site(2, 30, path);
  int joined = 0;
  std::optional<Message> refusal;
  for (int i = 0; i < 60 && !refusal; ++i) {
    Peer peer(site.server->port(), 0);
    const std::optional<Message> answer = peer.hear({"welcome", "refuse"});
    REQUIRE(answer);
    if (answer->kind == "welcome") {
      ++joined;
      peer.send(control(Message("leave").with("reason", std::string("again"))));
      site.run(next_lost(*site.server));
    } else {
      refusal = answer;
    }
  }
  REQUIRE(refusal);
  CHECK(joined >= static_cast<int>(limits::kJoinsAtOnce));
  CHECK(joined < static_cast<int>(limits::kJoinsAtOnce) + 10);
  CHECK(wire::Expect(*refusal, "refuse").words("reason") == "client 0 comes and goes too often");
  CHECK(refusal->scalars.at("retry") == wire::Scalar(true));
  CHECK(site.events("join") == static_cast<std::size_t>(joined));
  Peer other(site.server->port(), 1);
  CHECK(other.joined());
  site.server->finish("done");
}

TEST_CASE("clients and strangers leave descriptors over", "[net][hostile]") {
  constexpr std::size_t kConnections = limits::kStrangersMin + 3;
  Site site(100, 30, "", nullptr, 1 << 30, {}, kConnections);
  Echoers clients(site.server->port(), {0, 1});
  CHECK(site.run(await_events<talk::Joined>(*site.server, 2)) == 2);
  Peer third(site.server->port(), 2), fourth(site.server->port(), 3);
  CHECK(third.joined());
  const std::optional<Message> refusal = fourth.hear({"welcome", "refuse"});
  REQUIRE(refusal);
  CHECK_THAT(wire::Expect(*refusal, "refuse").words("reason"), Catch::Contains("no descriptor"));
  CHECK(refusal->scalars.at("retry") == wire::Scalar(true));
  // Strangers put each other out; the clients stay.
  asio::io_context io;
  std::vector<asio::ip::tcp::socket> strangers;
  for (std::size_t i = 0; i < 10 * kConnections; ++i) {
    strangers.emplace_back(io).connect({asio::ip::make_address("127.0.0.1"), site.server->port()});
  }
  std::size_t put_out = 0;
  for (std::size_t i = 0; i < strangers.size() - limits::kStrangersMin; ++i) {
    boost::system::error_code error;
    char byte = 0;
    strangers[i].read_some(asio::buffer(&byte, 1), error);
    put_out += error.failed();
  }
  CHECK(put_out == strangers.size() - limits::kStrangersMin);
  CHECK(site.run(ask_all(*site.server, 2, 1, 10)) >= 2);
  strangers.clear();
  site.server->finish("done");
  clients.join();
}

TEST_CASE("a server that numbers rounds as it likes has the rounds of the plan", "[net][hostile]") {
  const auto answered = [](Allowance& allowance, talk::ExchangeId exchange) {
    allowance.spend(400);
    allowance.belongs_to(exchange);
    return allowance.left() > 0;
  };
  // The same round by other steps and stages, and rounds that were.
  Allowance one(1000, 0, 0);
  one.expect(5);
  CHECK(answered(one, 3));
  CHECK(answered(one, 3 | (talk::ExchangeId{1} << 32)));
  CHECK_FALSE(answered(one, 3 | (talk::ExchangeId{2} << 48)));
  CHECK_FALSE(answered(one, 2));
  CHECK(answered(one, 4));
  // A round that is tried again is one more.
  CHECK(answered(one, 4 | (talk::ExchangeId{1} << 52)));
  CHECK(answered(one, 4 | (talk::ExchangeId{1} << 52) | (talk::ExchangeId{1} << 48)));
  CHECK_FALSE(answered(one, 4));
  // New ones without end: five rounds' bytes, and no more.
  Allowance all(1000, 0, 0);
  all.expect(5);
  int answers = 0;
  for (talk::ExchangeId exchange = 1; exchange < 1000; ++exchange)
    answers += answered(all, exchange);
  CHECK(answers <= 5 * 1000 / 400);
  CHECK(answers >= 5);
  CHECK(all.left_in_another_round() == 0);
  // Control frames count to the run's.
  Allowance noise(1000, 0, 0);
  noise.expect(5);
  for (int i = 0; i < 100; ++i) noise.spend(50);
  CHECK(noise.left_in_another_round() == 0);
  // No limit is none.
  Allowance any(0, 0, 0);
  any.expect(5);
  for (talk::ExchangeId exchange = 1; exchange < 1000; ++exchange) CHECK(answered(any, exchange));
}

TEST_CASE("an address says how far away it is", "[net]") {
  const auto reach = [](const char* text) { return reach_of(asio::ip::make_address(text)); };
  for (const char* text : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}) {
    CHECK(reach(text) == Reach::this_machine);
  }
  for (const char* text : {"0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1", "0.1.2.3"}) {
    CHECK(reach(text) == Reach::nowhere);
  }
  for (const char* text : {"169.254.169.254", "fe80::1"}) CHECK(reach(text) == Reach::this_link);
  for (const char* text : {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
                           "fd00::1", "::ffff:192.168.1.1"}) {
    CHECK(reach(text) == Reach::this_site);
  }
  for (const char* text : {"8.8.8.8", "172.32.0.1", "192.169.0.1", "2001:db8::1", "100.128.0.1"}) {
    CHECK(reach(text) == Reach::anywhere);
  }
}
