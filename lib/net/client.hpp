// TcpClient: one client's Endpoint over TCP. Many of them share one network thread (ClientLoop).
// Reconnects with back-off when the connection breaks; the conversation sees Lost and Joined of the
// server.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "base/limits.hpp"
#include "net/address.hpp"
#include "net/connection.hpp"
#include "net/mailbox.hpp"

namespace fedctl::net {

// The network thread of a client process.
class ClientLoop {
 public:
  ClientLoop();
  ~ClientLoop();
  boost::asio::io_context& io() { return io_; }

 private:
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::thread thread_;
};

// Thrown to decline a plan for a reason that is not the server's business: it hears `told` alone.
struct Declined {
  std::string told;
  std::exception_ptr cause;  // an Error, for the people here
};

class TcpClient final : public talk::Endpoint {
 public:
  struct PlanFacts {
    std::int64_t rounds = 0;                                  // 0: any number
    std::size_t question_bytes_max = limits::kFrameBytesMax;  // of one message by the server
    bool has_neighbours = false;                              // its clients talk to each other
    std::vector<talk::PeerId> neighbours = {};                // this one's, ascending
  };
  struct Options {
    Address server;
    talk::PeerId id = 0;
    std::string version;
    std::shared_ptr<Credentials> tls =
        nullptr;  // shared by the clients of one loop; null: plaintext
    // Bytes both ways that the site allows, of one round and in all, of which some were spent by
    // processes before this one; beyond them the client leaves. 0: no limit.
    std::uint64_t round_bytes_max = 0, total_bytes_max = 0, bytes_spent = 0;
    double first_retry_s = 1;   // how long to try to connect at first
    double later_retry_s = 60;  // and after having been connected
    // Builds what the plan asks for and returns the "ready" message; runs on `executor`, may take
    // long. `run` is the number of the server's run, 0 if it has none. Throws Error or Declined to
    // decline.
    std::function<talk::Message(const std::string& plan, std::int64_t run)> prepare;
    // What the plan allows the server; called behind prepare. None: no neighbours.
    std::function<PlanFacts()> facts = {};
    // Of links to them: roles server and caller. Null: plaintext, like `tls`.
    std::shared_ptr<Credentials> greet = nullptr, call = nullptr;
    std::function<void(const std::string&)> notice;  // one line for people
  };
  TcpClient(Options options, ClientLoop& loop, boost::asio::any_io_executor executor);
  ~TcpClient() override;

  // Begins to connect. Call once.
  void start();
  // Hangs up; the conversation sees Closed. From any thread.
  void stop();
  // Why the conversation ended, when it was not the server's end of the run: to be rethrown.
  std::exception_ptr failure() const;
  // Both ways, in all. From any thread.
  std::uint64_t bytes_spent() const;
  // The server's word at the end of the run, if it came.
  std::optional<std::string> end_status() const;

  std::vector<talk::PeerId> peers() const override;
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  void spend(Duration) override {}
  talk::Task<void> send(talk::PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override;
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override;
  talk::Traffic take_sent_between() override;

 private:
  // Lives on the network thread, as long as its coroutines.
  struct Link;
  std::shared_ptr<Link> link_;
  bool joined_ = false;
  std::set<talk::PeerId> neighbours_;  // present
  talk::Traffic sent_between_;
};

}  // namespace fedctl::net
