// TcpServer: the server's Endpoint over TCP. One network thread holds all sockets, heartbeats and
// handshakes; the method's coroutine runs elsewhere and meets it in the mailbox.
//
// Handshake (docs/protocol.md): hello -> plan -> ready -> welcome, or refuse with a reason.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/limits.hpp"
#include "journal/journal.hpp"
#include "net/connection.hpp"
#include "net/detail/bucket.hpp"
#include "net/mailbox.hpp"
#include "talk/ledger.hpp"

namespace fedctl::net {

class TcpServer final : public talk::Endpoint {
 public:
  struct Options {
    std::string host;
    std::uint16_t port = 0;  // 0: a free one
    std::int64_t clients = 1;
    double idle_s = 30;
    std::size_t frame_bytes_max = 0;                           // after the handshake
    std::size_t waiting_bytes_max = limits::kWaitingBytesMax;  // of one, then it is not read
    // At once; the descriptors left over are for this process's own files.
    std::size_t connections_max = std::numeric_limits<std::size_t>::max();
    std::string plan;      // the effective experiment, sent to every client
    std::int64_t run = 0;  // this run's number
    std::shared_ptr<Scratch> scratch = Scratch::in("");  // for what has been received
    std::shared_ptr<Credentials> tls = nullptr;          // null: plaintext
    std::function<void(const std::string&)> notice = [](const std::string&) {};  // for people
    // Throws ProtocolError naming both values if this client may not take part; in full to one who
    // is `known`, by its certificate or as a process of this machine.
    std::function<void(const talk::Message& ready, bool known)> admit;
    // Between whom messages are passed on; none: nobody.
    std::function<std::vector<talk::PeerId>(talk::PeerId)> neighbours = {};
  };
  // Listens at once. `executor` runs the coroutine that receives. Throws ConfigError if the address
  // cannot be used. The journal gets join, leave and refuse.
  TcpServer(Options options, boost::asio::any_io_executor executor, talk::Ledger& ledger,
            journal::Journal& journal);
  ~TcpServer() override;

  std::uint16_t port() const { return port_; }

  std::vector<talk::PeerId> peers() const override { return {peers_.begin(), peers_.end()}; }
  std::size_t peer_count() const override { return peers_.size(); }
  std::shared_ptr<Scratch> scratch() const override { return options_.scratch; }
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  void spend(Duration) override {}
  talk::Task<void> send(talk::PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override;
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override;

  // From any thread: the coroutine sees Closed.
  void interrupt();
  // What the network thread failed with, if it did: the coroutine has seen Closed then.
  std::exception_ptr failure() const;
  // Tells every client that the run is over, waits until they have heard it (at most two seconds; a
  // client whose line broke in the last seven may come back to hear it), stops.
  void finish(const std::string& status);

 private:
  struct Session;
  talk::Task<void> accept_loop();
  talk::Task<void> watch_credentials();
  void refresh_credentials();
  // False: there is none for one more.
  bool make_room(const Session& newcomer);
  std::size_t connections() const;
  talk::Task<void> serve(std::shared_ptr<Session> session);
  talk::Task<void> handshake(std::shared_ptr<Session> session);
  talk::Task<void> converse(std::shared_ptr<Session> session);
  void count(talk::PeerId peer, Way way, talk::Traffic traffic, Crossed crossed);
  // The client's neighbours that are here hear of it, and it of them.
  void introduce(const Session& session, bool present);
  void pass_on(const Session& from, const talk::Message& relay);
  void ask(Session& session, const talk::SharedFrame& frame);
  talk::Task<void> forget_answer(talk::PeerId peer);
  talk::Task<void> say_goodbye(std::string status);
  void dismiss(Connection& connection);
  TimePoint missed_until() const;
  void refuse(Session& session, const std::string& reason);
  talk::Task<void> send_away(std::shared_ptr<Session> session, std::string reason, bool put_out);
  // Throws TryAgain if it cannot be let in now.
  void require_turn(talk::PeerId peer);
  void note(const journal::Event& event);
  void fail(std::exception_ptr error);
  void deliver(talk::PeerId from, Received received);
  wire::Transfer& answer_of(talk::PeerId peer) {
    return answers_.try_emplace(peer, options_.scratch).first->second;
  }

  Options options_;
  talk::Ledger& ledger_;
  journal::Journal& journal_;
  std::shared_ptr<Mailbox> mailbox_;
  talk::FrameCache cache_{true};  // work side
  std::set<talk::PeerId> peers_;  // work side
  boost::asio::io_context io_{1};
  // How far the last question has got to a client, and what has come of its answer; network thread.
  std::map<talk::PeerId, Crossed> asked_;
  std::map<talk::PeerId, wire::Transfer> answers_;
  // What a client may still do, over all its connections.
  struct Patience {
    Bucket joins{limits::kJoinsAtOnce, limits::kJoinsPerSecond};
    Bucket messages{limits::kUnaskedMax, 0};  // a question adds to it
  };
  std::map<talk::PeerId, Patience> patience_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::uint16_t port_ = 0;
  std::map<talk::PeerId, std::shared_ptr<Session>> sessions_;  // network thread
  std::list<std::shared_ptr<Session>> strangers_;  // have not said who they are, oldest first
  std::set<talk::PeerId> preparing_;               // have, and are not ready yet
  std::map<talk::PeerId, TimePoint> missed_;       // lost, and until when it may be on its way back
  std::size_t sent_away_ = 0;                      // are being told why
  Bucket refusals_{limits::kRefusalsAtOnce, limits::kRefusalsPerSecond};  // into the journal
  std::optional<std::string> goodbye_;  // the run is over; network thread
  boost::asio::steady_timer left_;      // cancelled when a session ends
  mutable std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace fedctl::net
