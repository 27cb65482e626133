#include "talk/mesh.hpp"

#include <algorithm>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>
#include <optional>
#include <tuple>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace fedctl::talk {
namespace {

// What lies in an inbox: a frame, or news. Ordered by arrival, then sender, then order of sending.
struct Arrival {
  TimePoint at;
  PeerId from;
  std::uint64_t sequence;
  SharedFrame frame;  // or null:
  Envelope envelope;  // news, or what its sender has unpacked already
  std::size_t unpacked_bytes = 0;

  auto key() const { return std::tie(at, from, sequence); }
  bool operator<(const Arrival& other) const { return key() < other.key(); }
};

// nullopt: the deadline passed.
using Delivery = std::optional<Arrival>;
using Channel =
    boost::asio::experimental::concurrent_channel<void(boost::system::error_code, Delivery)>;

Envelope opened(const Frame& frame, PeerId from) {
  wire::Header header;
  Envelope envelope{from, frame.exchange, Closed{}};
  envelope.event = wire::decode_frame(frame.bytes, header);
  return envelope;
}

Arrival news_of(TimePoint at, PeerId from, Envelope envelope) {
  return {at, from, 0, nullptr, std::move(envelope)};
}

TimePoint after(TimePoint start, const Link& link, double mbit, std::size_t bytes,
                std::uint64_t sendings) {
  double each_ms = link.latency_ms;
  if (mbit > 0) each_ms += static_cast<double>(bytes) * 8e-3 / mbit;
  return start + seconds(each_ms * static_cast<double>(sendings) * 1e-3);
}

}  // namespace

// One participant. All members but the channel are guarded by State::mutex.
class Mesh::Port final : public Endpoint {
 public:
  Port(State& mesh, PeerId id) : mesh_(mesh), id_(id) {}

  std::vector<PeerId> peers() const override;
  TimePoint now() const override;
  void spend(Duration modelled) override;
  Task<void> send(PeerId to, ExchangeId exchange, SharedMessage message) override;
  Task<std::optional<Envelope>> receive(TimePoint until) override;
  Traffic take_sent_between() override;

  State& mesh_;
  const PeerId id_;
  // From attach() to detach(): it must not outlive its executor.
  std::optional<Channel> channel_;
  std::set<PeerId> peers_;
  std::set<Arrival> inbox_;
  TimePoint clock_{};
  TimePoint until_{};  // of the receive in progress
  bool waiting_ = false;
  bool gone_ = false;
  bool closed_ = false;
  Traffic sent_between_;
  FrameCache cache_;
};

struct Mesh::State {
  explicit State(Options options_) : options(std::move(options_)) {}

  mutable std::mutex mutex;
  Options options;
  std::map<PeerId, std::unique_ptr<Port>> ports;
  std::size_t busy = 0;  // participants that are not waiting and not gone
  std::uint64_t sequence = 0;
  std::size_t unpacked_bytes = 0;  // in inboxes
  std::size_t sends = 0;
  std::map<std::pair<PeerId, PeerId>, TimePoint> last_arrival;  // a link keeps its order
  std::map<PeerId, TimePoint> asleep;  // clients that have been awake, and their clocks
  // The participants that wait for quiescence, by the time of their next event.
  std::set<std::pair<TimePoint, PeerId>> waiting;
  std::function<bool(PeerId, std::size_t)> lose_hook;

  bool reachable(PeerId id) const {
    const auto found = ports.find(id);
    if (found == ports.end()) return id != kServer && options.wake;
    return !found->second->gone_;
  }
  // Wakes a client that sleeps. Precondition: reachable.
  Port& port(PeerId id);
  static bool eager(const Port& port) { return port.peers_.size() <= 1 && port.until_ == kForever; }
  static TimePoint next_time(const Port& port) {
    return port.inbox_.empty() ? port.until_ : std::min(port.until_, port.inbox_.begin()->at);
  }

  void put(Port& to, Arrival arrival);
  void transfer(Port& from, PeerId to, const Frame& frame, Arrival arrival);
  bool may_unpack() const {
    const std::scoped_lock lock(mutex);
    return unpacked_bytes < limits::kUnpackedBytesMax;
  }
  // Preconditions: what the port waits for is there, or its deadline has passed.
  Delivery take(Port& port);
  void wake(Port& port);
  void progress();
  void leave(Port& port, const std::string& reason, bool returns);
};

Mesh::Port& Mesh::State::port(PeerId id) {
  std::unique_ptr<Port>& port = ports[id];
  if (!port) {
    port = std::make_unique<Port>(*this, id);
    port->peers_.insert(kServer);
    if (const auto clock = asleep.find(id); clock != asleep.end()) {
      port->clock_ = clock->second;
      asleep.erase(clock);
    }
    ++busy;
    options.wake(id);
  }
  return *port;
}

void Mesh::State::put(Port& to, Arrival arrival) {
  arrival.sequence = sequence++;
  const bool listed = to.waiting_ && !eager(to);
  if (listed) waiting.erase({next_time(to), to.id_});
  to.inbox_.insert(std::move(arrival));
  if (listed) waiting.insert({next_time(to), to.id_});
  if (to.waiting_ && eager(to)) wake(to);
}

// One frame over the client's link: delayed, perhaps repeated, perhaps lost together with the
// client.
void Mesh::State::transfer(Port& from, PeerId to, const Frame& frame, Arrival arrival) {
  const bool down = from.id_ == kServer;
  const PeerId client = down ? to : from.id_;
  const Link link = options.link(client);
  const auto number = static_cast<std::int64_t>(frame.exchange);
  if (down && link.dropout > 0 &&
      options.rng.stream("dropout", client, number).uniform_double() < link.dropout) {
    put(from, news_of(from.clock_, client, {client, 0, Lost{"dropped out (network.dropout)"}}));
    put(from, news_of(from.clock_, client, {client, 0, Joined{}}));
    return;
  }
  std::uint64_t sendings = 1;
  if (link.loss > 0) {
    Rng rng = options.rng.stream("loss", client, number, down ? 1 : to == kServer ? 0 : 2 + to);
    while (rng.uniform_double() < link.loss) ++sendings;
  }
  Traffic parts = frame.parts;
  parts.resent = (sendings - 1) * frame.parts.sum();
  if (!down && to != kServer) {
    from.sent_between_ += parts;
  } else if (options.ledger != nullptr) {
    options.ledger->add(client, down ? Direction::down : Direction::up, parts);
  }
  TimePoint at =
      after(from.clock_, link, down ? link.down_mbit : link.up_mbit, frame.parts.sum(), sendings);
  TimePoint& last = last_arrival[{from.id_, to}];
  at = last = std::max(at, last);
  arrival.at = at;
  unpacked_bytes += arrival.unpacked_bytes;
  put(port(to), std::move(arrival));
}

// The first arrival, or the deadline.
Delivery Mesh::State::take(Port& port) {
  Delivery delivery;
  if (!port.inbox_.empty() && port.inbox_.begin()->at <= port.until_) {
    delivery = std::move(port.inbox_.extract(port.inbox_.begin()).value());
    port.clock_ = std::max(port.clock_, delivery->at);
    unpacked_bytes -= delivery->unpacked_bytes;
    if (!delivery->frame) {
      const auto& event = delivery->envelope.event;
      if (std::holds_alternative<Joined>(event)) port.peers_.insert(delivery->from);
      if (std::holds_alternative<Lost>(event)) port.peers_.erase(delivery->from);
      if (std::holds_alternative<Closed>(event)) port.closed_ = true;
    }
  } else {
    port.clock_ = std::max(port.clock_, port.until_);
  }
  return delivery;
}

// Precondition: port.waiting_. Gives it its next event.
void Mesh::State::wake(Port& port) {
  waiting.erase({next_time(port), port.id_});
  Delivery delivery = take(port);
  port.waiting_ = false;
  ++busy;
  const bool sent = port.channel_->try_send(boost::system::error_code{}, std::move(delivery));
  FEDCTL_ASSERT(sent);
}

void Mesh::State::progress() {
  while (busy == 0 && !waiting.empty()) {
    const auto [time, id] = *waiting.begin();
    Port& port = *ports.at(id);
    if (time == kForever) {
      // Everyone waits for everyone: a conversation that ignores Lost. End it instead of hanging.
      put(port, news_of(port.clock_, id, {kServer, 0, Closed{}}));
      if (!port.waiting_) continue;
    }
    wake(port);
  }
}

// `returns`: the peers also see it join again (a client that comes back for the next task).
void Mesh::State::leave(Port& port, const std::string& reason, bool returns) {
  for (const auto& [id, other] : ports) {
    if (id == port.id_ || other->gone_ || !other->peers_.contains(port.id_)) continue;
    if (port.id_ == kServer) {
      put(*other, news_of(port.clock_, kServer, {kServer, 0, Closed{}}));
    } else {
      put(*other, news_of(port.clock_, port.id_, {port.id_, 0, Lost{reason}}));
      if (returns) put(*other, news_of(port.clock_, port.id_, {port.id_, 0, Joined{}}));
    }
  }
}

std::vector<PeerId> Mesh::Port::peers() const {
  const std::scoped_lock lock(mesh_.mutex);
  return {peers_.begin(), peers_.end()};
}

TimePoint Mesh::Port::now() const {
  const std::scoped_lock lock(mesh_.mutex);
  return clock_;
}

void Mesh::Port::spend(Duration modelled) {
  const std::scoped_lock lock(mesh_.mutex);
  clock_ += modelled;
}

Task<void> Mesh::Port::send(PeerId to, ExchangeId exchange, SharedMessage message) {
  // Only the server broadcasts; a client's cache would keep its last update alive.
  const SharedFrame frame =
      id_ == kServer ? cache_.frame(message, exchange) : make_frame(exchange, *message);
  Envelope envelope;
  std::size_t bytes = 0;
  if (to == kServer && mesh_.options.unpack && mesh_.may_unpack()) {
    envelope = opened(*frame, id_);
    mesh_.options.unpack(envelope);  // or not
    if (const auto* unpacked = std::get_if<Message>(&envelope.event)) {
      bytes = wire::payload_bytes(*unpacked);
    }
  }
  const std::scoped_lock lock(mesh_.mutex);
  if (id_ != kServer && mesh_.lose_hook && mesh_.lose_hook(id_, mesh_.sends++)) {
    mesh_.leave(*this, "lost by the test", true);
    co_return;
  }
  if (mesh_.reachable(to) && peers_.contains(to)) {
    mesh_.transfer(*this, to, *frame,
                   {{}, id_, 0, envelope.unpacked ? nullptr : frame, std::move(envelope), bytes});
  }
}

Task<std::optional<Envelope>> Mesh::Port::receive(TimePoint until) {
  Delivery delivery;
  bool here = false;
  {
    const std::scoped_lock lock(mesh_.mutex);
    if (closed_) co_return Envelope{kServer, 0, Closed{}};
    FEDCTL_ASSERT(!waiting_);
    until_ = until;
    here = State::eager(*this) && !inbox_.empty();
    if (here) {
      delivery = mesh_.take(*this);
    } else {
      waiting_ = true;
      --mesh_.busy;
      if (!State::eager(*this)) mesh_.waiting.insert({State::next_time(*this), id_});
      mesh_.progress();
    }
  }
  if (!here) delivery = co_await channel_->async_receive(boost::asio::use_awaitable);
  if (!delivery) co_return std::nullopt;
  // Decoded here, not under the lock: clients do it side by side.
  co_return delivery->frame ? opened(*delivery->frame, delivery->from)
                            : std::move(delivery->envelope);
}

Traffic Mesh::Port::take_sent_between() {
  const std::scoped_lock lock(mesh_.mutex);
  return std::exchange(sent_between_, {});
}

Mesh::Mesh(Options options) : state_(std::make_shared<State>(std::move(options))) {}
Mesh::~Mesh() = default;

Endpoint& Mesh::attach(PeerId id, boost::asio::any_io_executor executor) {
  const std::scoped_lock lock(state_->mutex);
  if (id != kServer && state_->options.wake) {  // it has been woken, and is counted
    Port& port = *state_->ports.at(id);
    port.channel_.emplace(std::move(executor), 1);
    return port;
  }
  auto port = std::make_unique<Port>(*state_, id);
  port->channel_.emplace(std::move(executor), 1);
  if (id == kServer) {
    port->peers_.insert(state_->options.clients.begin(), state_->options.clients.end());
  } else {
    port->peers_.insert(kServer);
    if (state_->options.neighbours) {
      const std::vector<PeerId> near = state_->options.neighbours(id);
      port->peers_.insert(near.begin(), near.end());
    }
  }
  ++state_->busy;
  return *state_->ports.insert_or_assign(id, std::move(port)).first->second;
}

void Mesh::rest(PeerId id) {
  const std::scoped_lock lock(state_->mutex);
  const auto port = state_->ports.find(id);
  FEDCTL_ASSERT(!port->second->waiting_);
  if (!port->second->inbox_.empty()) {
    port->second->channel_.reset();
    state_->options.wake(id);
    return;
  }
  state_->asleep[id] = port->second->clock_;
  state_->ports.erase(port);
  --state_->busy;
  state_->progress();
}

void Mesh::detach(PeerId id, const std::string& reason) {
  const std::scoped_lock lock(state_->mutex);
  Port& port = *state_->ports.at(id);
  FEDCTL_ASSERT(!port.waiting_);
  port.gone_ = true;
  port.channel_.reset();
  --state_->busy;
  state_->leave(port, reason, false);
  state_->progress();
}

void Mesh::interrupt() {
  const std::scoped_lock lock(state_->mutex);
  Port& server = *state_->ports.at(kServer);
  state_->put(server, news_of(server.clock_, kServer, {kServer, 0, Closed{}}));
  state_->progress();
}

void Mesh::lose_at(std::function<bool(PeerId, std::size_t)> hook) {
  const std::scoped_lock lock(state_->mutex);
  state_->lose_hook = std::move(hook);
}

}  // namespace fedctl::talk
