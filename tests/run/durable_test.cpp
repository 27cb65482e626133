#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "run/client_memory.hpp"
#include "run/durable_endpoint.hpp"

using namespace fedctl;
using namespace fedctl::run;
using talk::Envelope;
using talk::Message;
using talk::PeerId;
namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

struct Folder {
  std::string path =
      (fs::temp_directory_path() / ("fedctl-durable-" + std::to_string(::getpid()))).string();
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
};

// A network that the test plays: what arrives stands in `arriving`, the clock in `time`.
class Network final : public talk::Endpoint {
 public:
  std::vector<PeerId> peers() const override { return {}; }
  TimePoint now() const override { return time; }
  void spend(Duration) override {}
  talk::Task<void> send(PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override {
    sent.push_back({to, exchange, *message});
    co_return;
  }
  // Waiting takes no time but what `until` says.
  talk::Task<std::optional<Envelope>> receive(TimePoint until) override {
    if (arriving.empty()) {
      time = std::max(time, until);
      co_return std::nullopt;
    }
    Envelope envelope = std::move(arriving.front());
    arriving.pop_front();
    co_return envelope;
  }

  std::deque<Envelope> arriving;
  std::vector<Envelope> sent;
  TimePoint time{seconds(1000)};
};

template <class Result>
Result wait_for(talk::Task<Result> task) {
  asio::io_context io;
  std::optional<Result> result;
  asio::co_spawn(io, std::move(task), [&](std::exception_ptr error, Result value) {
    if (error) std::rethrow_exception(error);
    result = std::move(value);
  });
  io.run();
  return std::move(*result);
}
void wait_for(talk::Task<void> task) {
  asio::io_context io;
  asio::co_spawn(io, std::move(task), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.run();
}

Envelope joined(PeerId peer, std::int64_t session) { return {peer, 0, talk::Joined{session}}; }
Envelope lost(PeerId peer) { return {peer, 0, talk::Lost{"cut"}}; }
Envelope answer(PeerId peer, talk::ExchangeId exchange) {
  return {peer, exchange, Message("update").with("from", peer)};
}

// A server's process on this network.
struct Process {
  Process(Network& network, const std::string& folder)
      : endpoint(network, ledger, {.folder = folder, .grace = seconds(30)}), network_(network) {}

  // What it receives until nothing is there: "joined 1", "update 0", ...; "passed" at the end.
  std::vector<std::string> hear(std::size_t most = 100) {
    std::vector<std::string> heard;
    while (heard.size() < most) {
      const auto envelope = wait_for(endpoint.receive(endpoint.now()));
      if (!envelope) break;
      const std::string peer = " " + std::to_string(envelope->from);
      if (std::holds_alternative<talk::Joined>(envelope->event)) heard.push_back("joined" + peer);
      if (std::holds_alternative<talk::Lost>(envelope->event)) heard.push_back("lost" + peer);
      if (std::holds_alternative<Message>(envelope->event)) heard.push_back("update" + peer);
    }
    return heard;
  }
  void ask(PeerId peer, talk::ExchangeId exchange) {
    wait_for(endpoint.send(
        peer, exchange,
        wire::share(Message("train").with("round", static_cast<std::int64_t>(exchange)))));
  }

  talk::Ledger ledger;
  DurableEndpoint endpoint;

 private:
  Network& network_;
};

using Heard = std::vector<std::string>;

// Of a spool that is opened and closed.
std::size_t records_in(const std::string& path) {
  Spool spool(path);
  SpoolRecords records = spool.records();
  std::size_t count = 0;
  while (records.next()) ++count;
  CHECK_FALSE(records.more());
  return count;
}

}  // namespace

TEST_CASE("what a server has heard, the next process hears again", "[run][durable]") {
  const Folder folder;
  {
    Network network;
    Process first(network, folder.path);
    first.endpoint.begin(1);
    network.arriving = {joined(0, 70), joined(1, 71), joined(2, 72)};
    CHECK(first.hear() == Heard{"joined 0", "joined 1", "joined 2"});
    for (const PeerId peer : {0, 1, 2}) first.ask(peer, 1);
    CHECK(network.sent.size() == 3);
    network.arriving = {answer(1, 1)};
    CHECK(first.hear() == Heard{"update 1"});
  }
  Network network;
  Process second(network, folder.path);
  second.endpoint.begin(1);
  CHECK(second.hear(3) == Heard{"joined 0", "joined 1", "joined 2"});
  CHECK(second.endpoint.peers() == std::vector<PeerId>{0, 1, 2});
  CHECK(second.hear(1).empty());  // the deadline of the first call had passed
  for (const PeerId peer : {0, 1, 2}) second.ask(peer, 1);
  CHECK(second.hear() == Heard{"update 1"});
  CHECK(network.sent.empty());  // nobody is connected yet
  // Bytes as the first process has counted them.
  const talk::Crossing bytes = talk::total(second.ledger.take());
  CHECK(bytes.up.framing > 0);
  CHECK(bytes.down.framing > 0);
  // Back with their sessions: only what is open is asked again, and nothing is told.
  network.arriving = {joined(0, 70), joined(1, 71)};
  CHECK(second.hear() == Heard{});
  REQUIRE(network.sent.size() == 1);
  CHECK(network.sent[0].from == 0);
  // Client 2 stays away.
  network.time += seconds(31);
  CHECK(second.hear() == Heard{"lost 2"});
  CHECK(second.endpoint.peers() == std::vector<PeerId>{0, 1});
  CHECK(second.endpoint.sessions() == std::map<PeerId, std::int64_t>{{0, 70}, {1, 71}});
}

TEST_CASE("a question is counted once, also if server and client are new", "[run][durable]") {
  const Folder folder;
  {
    Network network;
    Process first(network, folder.path);
    first.endpoint.begin(1);
    network.arriving = {joined(0, 70), joined(1, 71)};
    first.hear(2);
    for (const PeerId peer : {0, 1}) first.ask(peer, 1);
    network.arriving = {answer(1, 1)};
    first.hear(1);
  }
  Network network;
  Process second(network, folder.path);
  second.endpoint.begin(1);
  second.hear(2);
  for (const PeerId peer : {0, 1}) second.ask(peer, 1);
  CHECK(second.hear(1) == Heard{"update 1"});
  second.ledger.take();
  network.arriving = {joined(0, 99)};
  CHECK(second.hear(1) == Heard{"joined 0"});
  second.ask(0, 1);
  REQUIRE(network.sent.size() == 1);  // and counted by the network
  CHECK(talk::total(second.ledger.take()).down.sum() == 0);
}

TEST_CASE("a client that comes back in time has never been away", "[run][durable]") {
  const Folder folder;
  Network network;
  Process server(network, folder.path);
  server.endpoint.begin(1);
  network.arriving = {joined(0, 70)};
  CHECK(server.hear() == Heard{"joined 0"});
  server.ask(0, 1);
  network.arriving = {lost(0)};
  CHECK(server.hear() == Heard{});
  network.time += seconds(10);
  network.arriving = {joined(0, 70)};
  CHECK(server.hear() == Heard{});
  CHECK(network.sent.size() == 2);
  // Another process of the same client is told, so that it is asked anew.
  network.arriving = {lost(0), joined(0, 99)};
  CHECK(server.hear() == Heard{"joined 0"});
  CHECK(network.sent.size() == 2);
  // And one that does not come back is lost once.
  network.arriving = {lost(0)};
  CHECK(server.hear() == Heard{});
  network.time += seconds(31);
  CHECK(server.hear() == Heard{"lost 0"});
  CHECK(server.hear() == Heard{});
}

TEST_CASE("the spool of a round that is over is dropped", "[run][durable]") {
  const Folder folder;
  Network network;
  Process server(network, folder.path);
  server.endpoint.begin(1);
  // Two are heard at once, and the round ends before the method asks for the second.
  network.arriving = {joined(0, 70), joined(1, 71)};
  CHECK(server.hear(1) == Heard{"joined 0"});
  server.endpoint.begin(2);
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 1);
  Process next(network, folder.path);
  next.endpoint.restore({{0, 70}});
  next.endpoint.begin(2);
  CHECK(next.hear() == Heard{"joined 1"});
  CHECK(next.endpoint.peers() == std::vector<PeerId>{0, 1});
}

TEST_CASE("time does not pass between two processes of a server", "[run][durable]") {
  const Folder folder;
  Network network;
  TimePoint began;
  {
    Process first(network, folder.path);
    first.endpoint.begin(1);
    began = first.endpoint.now();
    network.time += seconds(3);
    network.arriving = {joined(0, 70), joined(1, 71)};
    CHECK(first.hear(2) == Heard{"joined 0", "joined 1"});
    first.ask(0, 1);
    network.time += seconds(4);
    network.arriving = {answer(0, 1)};
    CHECK(first.hear(1) == Heard{"update 0"});
    // A deadline at 10 s passes.
    CHECK_FALSE(wait_for(first.endpoint.receive(began + seconds(10))));
  }
  network.time += seconds(10'000);
  Process next(network, folder.path);
  next.endpoint.begin(1);
  began = next.endpoint.now();
  const auto elapsed = [&] { return to_ms(next.endpoint.now() - began) * 1e-3; };
  CHECK(next.hear(2) == Heard{"joined 0", "joined 1"});
  CHECK(elapsed() == 3);
  next.ask(0, 1);
  CHECK(next.hear(1) == Heard{"update 0"});
  CHECK(elapsed() == 7);
  CHECK_FALSE(wait_for(next.endpoint.receive(began + seconds(10))));
  CHECK(elapsed() == 10);
  // Live again: nothing more is there, and the time goes on from where it was.
  CHECK_FALSE(wait_for(next.endpoint.receive(began + seconds(12))));
  CHECK(elapsed() == 12);
  network.time += seconds(1);
  CHECK(elapsed() == 13);
  next.endpoint.begin(2);
  CHECK(elapsed() == 13);
}

namespace {
void append(Spool& spool, const talk::Envelope& envelope) {
  spool.append(&envelope, seconds(2));
  spool.flush();
}
}  // namespace

TEST_CASE("a torn end of a spool is cut, a damaged middle refused", "[run][durable]") {
  const Folder folder;
  const std::string path = folder.path + "/round-00000001";
  std::vector<std::uintmax_t> ends;
  {
    Spool spool(path);
    for (const PeerId peer : {0, 1, 2}) {
      append(spool, answer(peer, 1));
      ends.push_back(fs::file_size(path));
    }
    spool.append(nullptr, seconds(3));
    append(spool, lost(4));
    spool.sync();
  }
  CHECK(records_in(path) == 5);
  for (std::uintmax_t size = fs::file_size(path); size-- > 0;) {
    fs::resize_file(path, size);
    const std::size_t whole = records_in(path);
    CHECK(whole <= 4);
    if (size < ends[2]) CHECK(whole == (size >= ends[1] ? 2U : size >= ends[0] ? 1U : 0U));
    // What is left is whole: more can be appended.
    const std::uintmax_t left = fs::file_size(path);
    CHECK(left <= size);
    size = left;
  }
  {
    Spool spool(path);
    for (const PeerId peer : {0, 1, 2}) append(spool, answer(peer, 1));
  }
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(30).put('!');
  CHECK_THROWS_AS(Spool(path), RunDirectoryError);
  // Zeros behind the last record: the file grew, its bytes were never written.
  fs::remove(path);
  {
    Spool spool(path);
    append(spool, answer(0, 1));
  }
  fs::resize_file(path, fs::file_size(path) + 4096);
  CHECK(records_in(path) == 1);
}

TEST_CASE("a client's memory outlives its process and no other run", "[run][durable]") {
  const Folder folder;
  std::int64_t session = 0;
  {
    ClientMemory memory(folder.path, 3);
    session = memory.session(11);
    CHECK(session > 0);
    CHECK(memory.session(11) == session);
    memory.keep(5, wire::share(Message("update").with("loss", 0.5)), [] {
      return Parts{{"codecs", Message("memory")}};
    });
    CHECK_THROWS_AS(ClientMemory(folder.path, 3), RunDirectoryError);  // in use
    CHECK_THROWS_AS(memory.session(12), ProtocolError);
  }
  {
    ClientMemory memory(folder.path, 3);
    CHECK(memory.exchange() == 5);
    CHECK(*memory.answer() == Message("update").with("loss", 0.5));
    CHECK(memory.parts() == Parts{{"codecs", Message("memory")}});
    CHECK(memory.session(11) == session);
  }
  {
    ClientMemory memory(folder.path, 3);
    CHECK(memory.session(12) != session);
    CHECK(memory.exchange() == 0);
    CHECK(memory.parts().empty());
  }
  std::filesystem::copy_file(folder.path + "/client-3", folder.path + "/client-4");
  CHECK_THROWS_WITH(ClientMemory(folder.path, 4), Catch::EndsWith("/client-4: is the state of client 3, not of client 4"));
  std::fstream(folder.path + "/client-3", std::ios::in | std::ios::out | std::ios::binary)
      .seekp(25)
      .put('!');
  CHECK_THROWS_WITH(ClientMemory(folder.path, 3), Catch::Contains("damaged"));
}
