// A TCP server and clients on loopback, as the tests of the transport use them.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <fstream>
#include <future>

#include "base/limits.hpp"
#include "base/rng.hpp"
#include "journal/chain.hpp"
#include "net/client.hpp"
#include "net/server.hpp"

namespace fedctl::test {

using namespace net;
using talk::Message;
using talk::Task;
namespace asio = boost::asio;

// A server with its work loop on a thread of its own, and the journal's events by name.
class Site {
 public:
  explicit Site(std::int64_t clients, double idle_s = 30)
      : Site(clients, idle_s,
             std::filesystem::temp_directory_path() /
                 ("fedctl-net-" + std::to_string(::getpid()) + ".jsonl")) {}
  // The journal's file; empty: none.
  Site(std::int64_t clients, double idle_s, const std::filesystem::path& path,
       std::shared_ptr<Credentials> tls = nullptr, std::size_t waiting_bytes_max = 1 << 30,
       std::function<std::vector<talk::PeerId>(talk::PeerId)> neighbours = {},
       std::size_t connections_max = 1 << 20)
      : path_(path),
        journal_((std::filesystem::remove(path_),
                  std::filesystem::remove(journal::chain_path(path_.string())), path_.string()),
                 {"test", "server", {}}, wall_ms) {
    TcpServer::Options options;
    options.host = "127.0.0.1";
    options.clients = clients;
    options.idle_s = idle_s;
    options.frame_bytes_max = 4 << 20;
    options.plan = "name: test";
    options.tls = std::move(tls);
    options.neighbours = std::move(neighbours);
    options.waiting_bytes_max = waiting_bytes_max;
    options.connections_max = connections_max;
    options.admit = [](const Message& ready, bool) {
      if (wire::Expect(ready, "ready").text("base") != "right") {
        throw ProtocolError("base model differs: the client has wrong, the server right");
      }
    };
    server.emplace(std::move(options), work.get_executor(), ledger, journal_);
  }
  // Runs the conversation to its end and finishes the server.
  template <class T>
  T run(Task<T> conversation) {
    std::optional<T> result;
    asio::co_spawn(work, std::move(conversation), [&](std::exception_ptr error, T value) {
      if (error) std::rethrow_exception(error);
      result = std::move(value);
    });
    work.run();
    work.restart();
    return *result;
  }
  std::size_t events(const std::string& name) const {
    std::ifstream in(path_);
    std::size_t count = 0;
    for (std::string line; std::getline(in, line);) {
      count += line.find("\"event\":\"" + name + '"') != std::string::npos;
    }
    return count;
  }

  std::filesystem::path path_;
  journal::Journal journal_;
  talk::Ledger ledger;
  asio::io_context work{1};
  std::optional<TcpServer> server;
};

// Answers every message with one that holds the same tensor, until the run closes.
inline Task<void> echo(talk::Endpoint& net) {
  while (true) {
    const std::optional<talk::Envelope> envelope = co_await net.receive(kForever);
    if (std::holds_alternative<talk::Closed>(envelope->event)) co_return;
    if (const auto* message = std::get_if<Message>(&envelope->event)) {
      Message answer("echo");
      answer.tensors = message->tensors;
      co_await talk::reply(net, *envelope, std::move(answer));
    }
  }
}

class Echoers {
 public:
  Echoers(std::uint16_t port, std::vector<talk::PeerId> ids, const std::string& base = "right",
          const std::shared_ptr<Credentials>& tls = nullptr,
          const TcpClient::PlanFacts& facts = {}) {
    for (const talk::PeerId id : ids) {
      TcpClient::Options options;
      options.server = {"127.0.0.1", port};
      options.id = id;
      options.version = "test";
      options.tls = tls;
      options.facts = [facts] { return facts; };
      options.prepare = [base](const std::string&, std::int64_t) {
        return Message("ready").with("base", base);
      };
      options.notice = [](const std::string&) {};
      const auto seat = asio::make_strand(pool_);
      clients.push_back(std::make_unique<TcpClient>(std::move(options), loop_, seat));
      clients.back()->start();
      asio::co_spawn(seat, echo(*clients.back()), [](std::exception_ptr error) {
        if (error) std::rethrow_exception(error);
      });
    }
  }
  void join() { pool_.join(); }

 private:
  asio::thread_pool pool_{2};
  ClientLoop loop_;

 public:
  std::vector<std::unique_ptr<TcpClient>> clients;  // gone before the threads they run on
};

inline TimePoint in_s(double count) { return std::chrono::steady_clock::now() + seconds(count); }

// Waits for the clients, then asks each `rounds` times; returns the number of answers.
inline Task<std::size_t> ask_all(TcpServer& server, std::size_t clients, int rounds,
                                 std::size_t floats) {
  while (server.peers().size() < clients) {
    const std::optional<talk::Envelope> envelope = co_await server.receive(in_s(20));
    if (!envelope) co_return 0;
  }
  std::size_t answers = 0;
  const std::vector<float> values(floats, 1.5F);
  for (int round = 1; round <= rounds; ++round) {
    const talk::SharedMessage message =
        wire::share(Message("say").with("w", Tensor::of(values, {})));
    talk::Requests requests;
    for (const talk::PeerId peer : server.peers()) requests.emplace(peer, message);
    const talk::Answers got = co_await talk::ask(server, static_cast<talk::ExchangeId>(round),
                                                 std::move(requests), in_s(20));
    answers += got.replies.size();
  }
  co_return answers;
}

// Waits until `count` envelopes of type Event have come.
template <class Event>
Task<std::size_t> await_events(TcpServer& server, std::size_t count) {
  std::size_t seen = 0;
  while (seen < count) {
    const std::optional<talk::Envelope> envelope = co_await server.receive(in_s(20));
    if (!envelope) break;
    seen += std::holds_alternative<Event>(envelope->event);
  }
  co_return seen;
}

// A raw connection that says whatever it likes, and how much it heard before the other side hung
// up.
inline std::size_t say(std::uint16_t port, ByteView bytes, bool half_close) {
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  socket.connect({asio::ip::make_address("127.0.0.1"), port});
  boost::system::error_code error;
  asio::write(socket, asio::buffer(bytes.data(), bytes.size()), error);
  if (half_close) socket.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  std::vector<char> heard(1 << 16);
  std::size_t total = 0;
  while (true) {
    const std::size_t got = socket.read_some(asio::buffer(heard), error);
    total += got;
    if (error) return total;
  }
}

}  // namespace fedctl::test
