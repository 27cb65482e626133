// Link: a client's side of the network, over all its connections.
#pragma once

#include <deque>
#include <map>
#include <mutex>

#include "net/allowance.hpp"
#include "net/client.hpp"
#include "net/detail/progress.hpp"
#include "net/direct.hpp"

namespace fedctl::net {

struct TcpClient::Link : std::enable_shared_from_this<Link> {
  Link(Options options_, boost::asio::io_context& io_, boost::asio::any_io_executor executor_)
      : options(std::move(options_)),
        io(io_),
        executor(executor_),
        mailbox(std::make_shared<Mailbox>(executor_)),
        allowance(std::make_shared<Allowance>(options.round_bytes_max, options.total_bytes_max,
                                              options.bytes_spent)) {}

  talk::Task<void> run();
  talk::Task<void> connect();
  talk::Task<void> handshake();
  // True: the run is over; false: the server ends, and may go on with the run.
  talk::Task<bool> converse();
  talk::Task<void> leave();
  std::exception_ptr not_back(const std::string& why) const;
  void answer(talk::SharedFrame frame);
  // To a neighbour; kept for when it, or this side, is back.
  void relay(talk::PeerId to, talk::SharedFrame frame);
  // A control frame; false: the run is over.
  bool hear(const talk::Message& message);
  // Whether this side reads no more until somebody has taken or written something.
  bool is_full() const;
  bool is_full(talk::PeerId from) const;
  bool is_neighbour(talk::PeerId id) const;
  bool may_call(const boost::asio::ip::address& address, std::uint16_t port) const;
  void hear_of(const talk::Message& neighbour);
  void hear_relay(const talk::Message& relay);
  // The last frames once more, by way of the server.
  void relay_again(talk::PeerId to);
  // The port on which neighbours reach this client; nullopt: by way of the server alone.
  std::optional<std::uint16_t> listen();
  static talk::Task<talk::SharedMessage> prepare_elsewhere(std::shared_ptr<Link> self,
                                                           std::string plan, std::int64_t run);
  void fail(std::exception_ptr error);
  void news(decltype(talk::Envelope::event) event, talk::ExchangeId exchange = 0) {
    mailbox->push({talk::kServer, exchange, std::move(event)});
  }

  Options options;
  boost::asio::io_context& io;
  boost::asio::any_io_executor executor;
  std::shared_ptr<Mailbox> mailbox;
  std::shared_ptr<Allowance> allowance;  // shared with every connection
  std::shared_ptr<Connection> connection;
  // The last frames to each neighbour: it is at most one exchange behind.
  std::map<talk::PeerId, std::deque<talk::SharedFrame>> relayed;
  std::shared_ptr<DirectLinks> direct;
  wire::Transfer question;                // as far as it has come, over all connections
  Progress kept;                          // of an answer, by the server, when it let us in
  talk::ExchangeId answered = 0;          // the last one on this connection
  std::shared_ptr<const TlsContext> tls;  // what the ticket is good for
  TlsTicket ticket;
  double idle_s = 30;
  PlanFacts facts;
  bool joined = false;  // the handshake of `connection` is over
  bool stopping = false;

  mutable std::mutex mutex;  // guards what other threads read
  std::exception_ptr failure;
  std::optional<std::string> end_status;
  talk::Traffic beside;  // of direct links: what is no message
};

}  // namespace fedctl::net
