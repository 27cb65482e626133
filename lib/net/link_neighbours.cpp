// A client's neighbours: by links of their own, or by way of the server.
#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/limits.hpp"
#include "net/detail/link.hpp"
#include "net/detail/relay.hpp"

namespace fedctl::net {
namespace {

namespace asio = boost::asio;
using talk::Message;

talk::PeerId neighbour_in(const Message& message) {
  return wire::Expect(message, message.kind).integer("client", 0, limits::kClientsMax);
}

// A neighbour that writes nonsense harms no one but itself.
talk::Envelope relayed_in(const Message& relay) {
  talk::Envelope envelope{neighbour_in(relay), 0, talk::Closed{}};
  try {
    wire::Header header;
    envelope.event = wire::decode_frame(frame_in(relay), header);
    envelope.exchange = header.exchange;
  } catch (const WireError& error) {
    envelope.event = talk::Rejected{error.what()};
  }
  return envelope;
}

}  // namespace

bool TcpClient::Link::is_neighbour(talk::PeerId id) const {
  return std::ranges::binary_search(facts.neighbours, id);
}

void TcpClient::Link::hear_relay(const Message& relay) {
  talk::Envelope envelope = relayed_in(relay);
  // One that writes more than is read harms no one but itself, either.
  if (is_neighbour(envelope.from) && !is_full(envelope.from)) mailbox->push(std::move(envelope));
}

void TcpClient::Link::relay(talk::PeerId to, talk::SharedFrame frame) {
  constexpr std::size_t kKept = 2;
  std::deque<talk::SharedFrame>& kept_frames = relayed[to];
  if (frame->parts.payload > 0) kept_frames.push_back(frame);
  if (kept_frames.size() > kKept) kept_frames.pop_front();
  if (direct && direct->send(to, frame)) return;
  if (!joined) return;
  if (frame->parts.sum() > allowance->left()) {
    asio::co_spawn(io, leave(), asio::detached);
    return;
  }
  connection->queue_control(relay_of(to, frame->bytes), slots::relay_by(to),
                            limits::kRelaysQueuedMax);
}

// A server that lies must not make us knock at doors that are closed to it: nothing nearer to us
// than where it is itself, and no port that a system's own services have.
bool TcpClient::Link::may_call(const asio::ip::address& address, std::uint16_t port) const {
  constexpr std::uint16_t kOwnPorts = 1024;
  const Reach reach = reach_of(address);
  return port >= kOwnPorts && reach != Reach::nowhere && reach >= reach_of(connection->peer());
}

// One that comes (back) may lack what was sent meanwhile.
void TcpClient::Link::hear_of(const Message& neighbour) {
  const talk::PeerId id = neighbour_in(neighbour);
  if (!is_neighbour(id)) return;  // the plan says who is, not the server
  const auto present = neighbour.scalars.find("present");
  if (present == neighbour.scalars.end() || present->second != wire::Scalar(true)) {
    mailbox->push({id, 0, talk::Lost{"left"}});
    return;
  }
  if (direct && neighbour.scalars.contains("port")) {
    const wire::Expect fields(neighbour, "neighbour");
    boost::system::error_code error;
    const auto address = asio::ip::make_address(fields.text("address"), error);
    const auto port = static_cast<std::uint16_t>(fields.integer("port", 1, UINT16_MAX));
    const std::string& ticket_of_it = fields.text("ticket");
    if (!error && may_call(address, port) && ticket_of_it.size() <= limits::kTicketBytesMax) {
      direct->introduce(id, {address, port}, ticket_of_it);
    }
  }
  relay_again(id);
  mailbox->push({id, 0, talk::Joined{}});
}

void TcpClient::Link::relay_again(talk::PeerId to) {
  if (!joined || (direct && direct->has(to))) return;
  for (const talk::SharedFrame& frame : relayed[to]) {
    connection->queue_control(relay_of(to, frame->bytes), slots::relay_by(to),
                              limits::kRelaysQueuedMax);
  }
}

std::optional<std::uint16_t> TcpClient::Link::listen() {
  if (!facts.has_neighbours) return std::nullopt;
  if (!direct) {
    DirectLinks::Options links;
    links.id = options.id;
    links.greet = options.greet;
    links.call = options.call;
    links.idle = seconds(idle_s);
    links.frame_bytes_max = facts.question_bytes_max;
    const std::weak_ptr<Link> weak = weak_from_this();
    links.heard = [weak](talk::PeerId from, Received received) {
      const auto self = weak.lock();
      if (!self) return;
      if (self->is_full(from)) throw ProtocolError("sends more than is read");
      self->mailbox->push({from, received.header.exchange, std::move(received.message)});
    };
    links.lost = [weak](talk::PeerId neighbour) {
      if (const auto self = weak.lock()) self->relay_again(neighbour);
    };
    links.count = [weak](Way way, const talk::Traffic& traffic, Crossed) {
      const auto self = weak.lock();
      if (!self) return;
      self->allowance->spend(traffic.sum());
      if (way == Way::in) return;
      const std::scoped_lock lock(self->mutex);
      self->beside.tls += traffic.tls;
      self->beside.control += traffic.control;
      self->beside.resent += traffic.resent;
    };
    direct = std::make_shared<DirectLinks>(std::move(links), io);
  }
  try {
    return direct->listen(connection->local());
  } catch (const boost::system::system_error&) {
    return std::nullopt;  // then by way of the server
  }
}

}  // namespace fedctl::net
