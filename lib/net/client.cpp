#include "net/client.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "net/detail/link.hpp"

namespace fedctl::net {

namespace asio = boost::asio;

ClientLoop::ClientLoop() : guard_(asio::make_work_guard(io_)) {
  thread_ = std::thread([this] { io_.run(); });
}
ClientLoop::~ClientLoop() {
  io_.stop();
  thread_.join();
}

TcpClient::TcpClient(Options options, ClientLoop& loop, asio::any_io_executor executor)
    : link_(std::make_shared<Link>(std::move(options), loop.io(), std::move(executor))) {}
TcpClient::~TcpClient() = default;

void TcpClient::start() {
  asio::co_spawn(
      link_->io,
      [](std::shared_ptr<Link> link) -> talk::Task<void> { co_await link->run(); }(link_),
      asio::detached);
}

void TcpClient::stop() {
  asio::post(link_->io, [link = link_] {
    link->stopping = true;
    if (link->connection) link->connection->close("stopped");
    if (link->direct) link->direct->stop();
    link->news(talk::Closed{});
  });
}

std::exception_ptr TcpClient::failure() const {
  const std::scoped_lock lock(link_->mutex);
  return link_->failure;
}

std::uint64_t TcpClient::bytes_spent() const { return link_->allowance->in_all(); }

std::optional<std::string> TcpClient::end_status() const {
  const std::scoped_lock lock(link_->mutex);
  return link_->end_status;
}

std::vector<talk::PeerId> TcpClient::peers() const {
  std::vector<talk::PeerId> peers;
  if (joined_) peers.push_back(talk::kServer);
  peers.insert(peers.end(), neighbours_.begin(), neighbours_.end());
  return peers;
}

talk::Task<void> TcpClient::send(talk::PeerId to, talk::ExchangeId exchange,
                                 talk::SharedMessage message) {
  talk::SharedFrame frame = talk::make_frame(exchange, *message, to == talk::kServer);
  if (to != talk::kServer) {
    sent_between_ += frame->parts;
    asio::post(link_->io, [link = link_, to, frame = std::move(frame)] { link->relay(to, frame); });
    co_return;
  }
  asio::post(link_->io, [link = link_, frame = std::move(frame)] { link->answer(frame); });
  co_return;
}

talk::Traffic TcpClient::take_sent_between() {
  talk::Traffic sent = std::exchange(sent_between_, {});
  const std::scoped_lock lock(link_->mutex);
  sent += std::exchange(link_->beside, {});
  return sent;
}

talk::Task<std::optional<talk::Envelope>> TcpClient::receive(TimePoint until) {
  std::optional<talk::Envelope> envelope = co_await link_->mailbox->receive(until);
  if (envelope) {
    const talk::PeerId from = envelope->from;
    const bool joined = std::holds_alternative<talk::Joined>(envelope->event);
    if (joined || std::holds_alternative<talk::Lost>(envelope->event)) {
      if (from == talk::kServer) {
        joined_ = joined;
      } else if (joined) {
        neighbours_.insert(from);
      } else {
        neighbours_.erase(from);
      }
    }
  }
  co_return envelope;
}

}  // namespace fedctl::net
