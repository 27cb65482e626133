#include "talk/mesh.hpp"

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <catch2/catch.hpp>

#include "talk/inbox.hpp"

using namespace fedctl;
using namespace fedctl::talk;

namespace {

Message numbered(const std::string& kind, std::int64_t value) {
  return Message(kind).with("value", value);
}

// Answers every question with its square until the run closes.
Task<void> squarer(Endpoint& net, double think_s) {
  while (true) {
    std::optional<Envelope> envelope = co_await net.receive(kForever);
    if (std::holds_alternative<Closed>(envelope->event)) co_return;
    if (const auto* message = std::get_if<Message>(&envelope->event)) {
      const auto value = std::get<std::int64_t>(message->scalars.at("value"));
      net.spend(seconds(think_s));
      co_await reply(net, *envelope, numbered("square", value * value));
    }
  }
}

struct Outcome {
  std::vector<Answers> rounds;
  std::vector<TimePoint> clock;
  std::size_t news = 0;
};

Task<void> asker(Endpoint& net, int rounds, double deadline_s, Outcome& outcome) {
  for (int round = 0; round < rounds; ++round) {
    const std::vector<Envelope> news = co_await drain(net);
    outcome.news += news.size();
    Requests requests;
    for (const PeerId peer : net.peers()) {
      requests.emplace(peer, wire::share(numbered("question", peer + round)));
    }
    const TimePoint until = net.now() + seconds(deadline_s);
    Answers answers = co_await ask(net, static_cast<ExchangeId>(round), std::move(requests), until);
    outcome.rounds.push_back(std::move(answers));
    outcome.clock.push_back(net.now());
  }
}

Outcome converse(Mesh& mesh, const std::vector<PeerId>& clients, int rounds, std::size_t threads,
                 double deadline_s, std::function<double(PeerId)> think) {
  namespace asio = boost::asio;
  asio::thread_pool pool(threads);
  Outcome outcome;
  std::vector<std::pair<PeerId, asio::any_io_executor>> seats;
  for (const PeerId id : clients) seats.emplace_back(id, asio::make_strand(pool));
  std::map<PeerId, Endpoint*> ends;
  for (const auto& [id, seat] : seats) ends[id] = &mesh.attach(id, seat);
  const asio::any_io_executor home = asio::make_strand(pool);
  Endpoint& server = mesh.attach(kServer, home);
  for (const auto& [id, seat] : seats) {
    asio::co_spawn(seat, squarer(*ends[id], think(id)), [&mesh, id = id](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
      mesh.detach(id, "done");
    });
  }
  asio::co_spawn(home, asker(server, rounds, deadline_s, outcome),
                 [&mesh](std::exception_ptr error) {
                   if (error) std::rethrow_exception(error);
                   mesh.detach(kServer, "done");
                 });
  pool.join();
  return outcome;
}

const std::vector<PeerId> kFive{0, 1, 2, 3, 4};

}  // namespace

TEST_CASE("every client answers, and the ledger holds the frames' bytes", "[talk][mesh]") {
  Ledger ledger;
  Mesh::Options options;
  options.clients = kFive;
  options.ledger = &ledger;
  Mesh mesh(std::move(options));
  const Outcome outcome = converse(mesh, kFive, 3, 2, 60, [](PeerId) { return 0.0; });
  REQUIRE(outcome.rounds.size() == 3);
  for (const Answers& answers : outcome.rounds) {
    CHECK(answers.replies.size() == 5);
    CHECK(answers.lost.empty());
  }
  CHECK(std::get<std::int64_t>(outcome.rounds[2].replies.at(4).scalars.at("value")) == 36);
  const Crossing crossing = total(ledger.take());
  const auto bytes = [](const Message& message) {
    return wire::encode_frame(wire::FrameType::data, 0, message).size();
  };
  CHECK(crossing.down.sum() == 15 * bytes(numbered("question", 1)));
  CHECK(crossing.up.sum() == 15 * bytes(numbered("square", 1)));
  CHECK(crossing.down.payload == 0);
}

TEST_CASE("virtual time follows the links, whatever the number of threads", "[talk][mesh]") {
  std::vector<TimePoint> clocks[2];
  for (const std::size_t threads : {1, 3}) {
    Mesh::Options options;
    options.clients = kFive;
    options.link = [](PeerId id) {
      Link link;
      link.latency_ms = 10 + static_cast<double>(id);
      link.down_mbit = 1;
      return link;
    };
    Mesh mesh(std::move(options));
    const Outcome outcome = converse(mesh, kFive, 4, threads, 60,
                                     [](PeerId id) { return 0.1 * static_cast<double>(id); });
    clocks[threads == 3] = outcome.clock;
    // The slowest client: 14 ms each way, 0.4 s of thinking, and the frame at 1 Mbit/s.
    const double frame_s =
        8e-6 * static_cast<double>(
                   wire::encode_frame(wire::FrameType::data, 0, numbered("question", 1)).size());
    CHECK(to_ms(outcome.clock[0] - TimePoint{}) == Approx(1e3 * (0.4 + 0.028 + frame_s)));
  }
  CHECK(clocks[0] == clocks[1]);
}

TEST_CASE("a slow client is silent at the deadline and late afterwards", "[talk][mesh]") {
  Mesh::Options options;
  options.clients = kFive;
  Mesh mesh(std::move(options));
  const Outcome outcome =
      converse(mesh, kFive, 2, 2, 1.0, [](PeerId id) { return id == 2 ? 1.5 : 0.1; });
  CHECK(outcome.rounds[0].silent == std::vector<PeerId>{2});
  CHECK(outcome.rounds[0].replies.size() == 4);
  REQUIRE(outcome.rounds[1].late.size() == 1);
  CHECK(outcome.rounds[1].late[0].from == 2);
}

TEST_CASE("a client lost at any send ends the conversation cleanly", "[talk][mesh]") {
  for (std::size_t lost_at = 0; lost_at < 10; ++lost_at) {
    Mesh::Options options;
    options.clients = kFive;
    Mesh mesh(std::move(options));
    mesh.lose_at([lost_at](PeerId, std::size_t index) { return index == lost_at; });
    const Outcome outcome = converse(mesh, kFive, 2, 2, 60, [](PeerId) { return 0.0; });
    const std::size_t replies = outcome.rounds[0].replies.size() + outcome.rounds[1].replies.size();
    CHECK(replies == 9);
    CHECK(outcome.rounds[0].lost.size() + outcome.rounds[1].lost.size() == 1);
  }
}

TEST_CASE("dropout and loss come from named streams and are repeatable", "[talk][mesh]") {
  std::uint64_t resent[2];
  std::size_t lost[2] = {0, 0};
  for (int run = 0; run < 2; ++run) {
    Ledger ledger;
    Mesh::Options options;
    options.clients = kFive;
    options.ledger = &ledger;
    options.rng = Rng(9).stream("network");
    options.link = [](PeerId) {
      Link link;
      link.loss = 0.3;
      link.dropout = 0.2;
      return link;
    };
    Mesh mesh(std::move(options));
    const Outcome outcome = converse(mesh, kFive, 20, 2, 60, [](PeerId) { return 0.0; });
    for (const Answers& answers : outcome.rounds) {
      lost[run] += answers.lost.size();
      CHECK(answers.lost.size() + answers.replies.size() == 5);
    }
    const Crossing crossing = total(ledger.take());
    resent[run] = crossing.down.resent + crossing.up.resent;
  }
  CHECK(lost[0] == lost[1]);
  CHECK(resent[0] == resent[1]);
  CHECK(lost[0] > 8);
  CHECK(lost[0] < 35);
  CHECK(resent[0] > 0);
}

namespace {

// Two talkers: the neighbour speaks before it is asked.
Task<void> chatter(Endpoint& net, PeerId other, std::vector<std::string>& heard) {
  Inbox inbox(net, 8);
  co_await net.send(other, 1, wire::share(numbered("early", 1)));
  co_await net.send(other, 1, wire::share(numbered("wanted", 2)));
  std::optional<Envelope> first = co_await inbox.take(other, "wanted", kForever);
  heard.push_back(std::get<Message>(first->event).kind);
  std::optional<Envelope> second = co_await inbox.take(other, "early", kForever);
  heard.push_back(std::get<Message>(second->event).kind);
  std::optional<Envelope> third = co_await inbox.take(other, "never", kForever);
  heard.push_back(std::holds_alternative<Message>(third->event) ? "message" : "news");
}

}  // namespace

TEST_CASE("an inbox keeps what is not wanted yet, and a wait for nothing ends", "[talk][inbox]") {
  namespace asio = boost::asio;
  asio::thread_pool pool(2);
  Mesh::Options options;
  options.clients = {0, 1};
  options.neighbours = [](PeerId id) { return std::vector<PeerId>{1 - id}; };
  Mesh mesh(std::move(options));
  std::vector<std::string> heard[2];
  const asio::any_io_executor seats[2] = {asio::make_strand(pool), asio::make_strand(pool)};
  Endpoint* ends[2] = {&mesh.attach(0, seats[0]), &mesh.attach(1, seats[1])};
  for (const PeerId id : {0, 1}) {
    asio::co_spawn(seats[id], chatter(*ends[id], 1 - id, heard[id]),
                   [&mesh, id](std::exception_ptr error) {
                     if (error) std::rethrow_exception(error);
                     mesh.detach(id, "done");
                   });
  }
  pool.join();
  for (const auto& list : heard) {
    CHECK(list == std::vector<std::string>{"wanted", "early", "news"});
  }
}

namespace {

// One question, then the end of the coroutine.
Task<void> square_once(Endpoint& net) {
  std::optional<Envelope> envelope = co_await net.receive(kForever);
  const auto* message = std::get_if<Message>(&envelope->event);
  if (message == nullptr) co_return;
  const auto value = std::get<std::int64_t>(message->scalars.at("value"));
  net.spend(seconds(0.1));
  co_await reply(net, *envelope, numbered("square", value * value));
}

}  // namespace

TEST_CASE("clients that sleep are woken by a frame, and come to what the others come to",
          "[talk][mesh]") {
  namespace asio = boost::asio;
  const auto link = [](PeerId id) {
    Link made;
    made.latency_ms = 10 + static_cast<double>(id);
    return made;
  };
  Mesh::Options options;
  options.clients = kFive;
  options.link = link;
  Mesh awake(std::move(options));
  const Outcome expected = converse(awake, kFive, 4, 2, 60, [](PeerId) { return 0.1; });

  for (const std::size_t threads : {1, 3}) {
    asio::thread_pool pool(threads);
    Mesh* mesh = nullptr;
    std::atomic<int> wakes = 0;
    Mesh::Options sleeping;
    sleeping.clients = kFive;
    sleeping.link = link;
    sleeping.wake = [&](PeerId id) {
      ++wakes;
      asio::post(pool, [&, id] {
        Endpoint& net = mesh->attach(id, pool.get_executor());
        asio::co_spawn(pool, square_once(net), [&, id](std::exception_ptr) { mesh->rest(id); });
      });
    };
    Mesh made(std::move(sleeping));
    mesh = &made;
    Outcome outcome;
    Endpoint& server = made.attach(kServer, asio::make_strand(pool));
    asio::co_spawn(pool, asker(server, 4, 60, outcome),
                   [&](std::exception_ptr) { made.detach(kServer, "done"); });
    pool.join();
    CHECK(wakes == 20);
    CHECK(outcome.clock == expected.clock);
    REQUIRE(outcome.rounds.size() == expected.rounds.size());
    for (std::size_t round = 0; round < 4; ++round) {
      CHECK(outcome.rounds[round].replies.size() == 5);
      CHECK(outcome.rounds[round].arrived == expected.rounds[round].arrived);
    }
  }
}
