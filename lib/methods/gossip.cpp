#include "methods/detail/gossip.hpp"

#include <algorithm>

#include "math/vectors.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {
namespace {

constexpr std::size_t kEarlyMax = 4;  // messages of one neighbour that wait for their exchange
constexpr double kPatience = 0.25;    // of the deadline
constexpr std::int64_t kBytesMax = std::int64_t{1} << 50;

// In a client's state.
constexpr const char* kDone = "done";
const std::string kReport = "report.";

using Part = std::uint64_t talk::Traffic::*;
constexpr std::pair<const char*, Part> kParts[] = {{"peers.payload", &talk::Traffic::payload},
                                                   {"peers.framing", &talk::Traffic::framing},
                                                   {"peers.tls", &talk::Traffic::tls},
                                                   {"peers.resent", &talk::Traffic::resent},
                                                   {"peers.control", &talk::Traffic::control}};

class GossipServer final : public RoundServer {
 public:
  explicit GossipServer(const GossipOptions& options) : watch_(options.watch) {}

  SharedMessage instruct(std::int64_t round, PeerId to, ServerContext& ctx) override {
    const bool whole = round > 1 && !known_.contains(to);
    if (round != std::exchange(round_, round)) tasks_[0] = tasks_[1] = nullptr;
    SharedMessage& task = tasks_[whole ? 1 : 0];
    if (task) return task;
    Message made = Message("train").with("round", round);
    if (whole) made.tensors.emplace("weights", Tensor::of(ctx.weights, {}));
    return task = wire::share(std::move(made));
  }

  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override {
    if (reply.kind == kBehind) {
      known_.erase(from);
      throw ProtocolError("it has lost its model; it gets the mean next time");
    }
    const wire::Expect update(reply, "update");
    if (watched(round_, ctx.plan)) {
      update.f32("weights", {static_cast<std::int64_t>(ctx.weights.size())});
    }
    for (const auto& [name, part] : kParts) update.integer(name, 0, kBytesMax);
    require_report(reply, from, ctx.plan);
  }

  Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) override {
    Merged merged;
    talk::Traffic& peers = merged.peers.emplace();
    std::unique_ptr<aggregate::Aggregator::Running> models;
    if (watched(round, ctx.plan)) models = ctx.aggregator.start(ctx.weights.size());
    for (const auto& [peer, reply] : replies) {
      add_report(merged, reply);
      const wire::Expect update(reply, "update");
      for (const auto& [name, part] : kParts) {
        peers.*part += static_cast<std::uint64_t>(update.integer(name, 0, kBytesMax));
      }
      if (models) models->add({peer, 1, reply.tensors.at("weights").f32()});
      known_[peer] = round;
    }
    finish(merged);
    if (models) models->finish(ctx.weights);
    return merged;
  }

  Message save() const override { return Message("state").with("known", by_peer(known_)); }
  void load(const Message& state) override { known_ = by_peer_in(state, "known"); }

 private:
  bool watched(std::int64_t round, const JobPlan& plan) const {
    return round % watch_ == 0 || round == plan.rounds;
  }

  std::int64_t watch_;
  std::map<PeerId, std::int64_t> known_;  // the last round that a client's answer was used in
  std::int64_t round_ = 0;
  SharedMessage tasks_[2];  // of it: without weights, with them
};

class GossipClient final : public RoundClient {
 public:
  bool rests() const override { return false; }
  GossipClient(const GossipOptions& options, const JobPlan& plan, std::unique_ptr<GossipWork> work)
      : graph_(options.graph, plan.clients), watch_(options.watch), work_(std::move(work)) {}

  Task<std::optional<Work>> work_with(Endpoint& net, const Message& task,
                                      ClientContext& ctx) override {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, ctx.plan.rounds);
    const auto size = static_cast<std::int64_t>(ctx.plan.layout.size());
    if (work_->model().empty()) {
      if (task.tensors.contains("weights")) {
        work_->start(expect.f32("weights", {size}));
      } else if (round == 1) {
        work_->start(ctx.plan.initial);
      } else {
        co_return Work{Message(kBehind)};
      }
    }
    if (round <= done_) co_return Work{answer_of(round, ctx)};  // too few had answered
    const double patience_s = kPatience * ctx.plan.deadline_max_s();
    if (!gossip_) {
      gossip_.emplace(graph_.neighbours(ctx.id));
      if (!co_await gossip_->gather(net, patience_s)) co_return std::nullopt;
    }
    gossip_->begin(patience_s);
    const std::optional<learn::TrainReport> report =
        co_await work_->round(round, net, *gossip_, ctx);
    if (!report) co_return std::nullopt;
    if (auto next = gossip_->take_task()) later(std::move(*next));
    done_ = round;
    report_ = Message("update")
                  .with("examples", report->examples)
                  .with("loss", report->loss)
                  .with("steps", report->steps);
    const talk::Traffic sent = net.take_sent_between();
    for (const auto& [name, part] : kParts) {
      report_.scalars.emplace(name, static_cast<std::int64_t>(sent.*part));
    }
    co_return Work{answer_of(round, ctx)};
  }

  Task<void> heard(Endpoint& net, talk::Envelope envelope, ClientContext& ctx) override {
    if (!gossip_) gossip_.emplace(graph_.neighbours(ctx.id));
    return gossip_->hear(net, std::move(envelope));
  }

  Message save() const override {
    Message state("state");
    if (!work_->model().empty()) work_->save(state);
    if (done_ == 0) return state;
    state.scalars.emplace(kDone, done_);
    for (const auto& [name, value] : report_.scalars) state.scalars.emplace(kReport + name, value);
    return state;
  }
  void load(const Message& state) override {
    work_->load(state);
    if (!state.scalars.contains(kDone)) return;
    done_ = wire::Expect(state, "state").integer(kDone, 1, std::numeric_limits<int>::max());
    for (const auto& [name, value] : state.scalars) {
      if (name.starts_with(kReport)) report_.scalars[name.substr(kReport.size())] = value;
    }
  }

 private:
  Message answer_of(std::int64_t round, const ClientContext& ctx) const {
    Message answer = report_;
    if (round % watch_ == 0 || round == ctx.plan.rounds) {
      answer.tensors.emplace("weights", Tensor::of(work_->model(), {}));
    }
    return answer;
  }

  Graph graph_;
  std::int64_t watch_;
  std::unique_ptr<GossipWork> work_;
  std::optional<Gossip> gossip_;
  std::int64_t done_ = 0;  // the last round of this model, and what was said of it
  Message report_{"update"};
};

}  // namespace

void GossipOptions::fields(config::Fields& fields) {
  graph_field(fields, graph);
  fields.integer("watch", watch, {1, 1'000'000},
                 "rounds from one look at the clients' models to the next, beside the last one's");
}

Task<bool> Gossip::gather(Endpoint& net, double patience_s) {
  const TimePoint until = net.now() + seconds(patience_s);
  while (!std::ranges::includes(net.peers(), neighbours_)) {
    std::optional<talk::Envelope> envelope = co_await net.receive(until);
    if (!envelope) break;
    if (std::holds_alternative<talk::Closed>(envelope->event)) co_return false;
    co_await hear(net, std::move(*envelope));
  }
  co_return true;
}

Task<void> Gossip::hear(Endpoint& net, talk::Envelope envelope) {
  const PeerId from = envelope.from;
  auto* message = std::get_if<Message>(&envelope.event);
  if (from == talk::kServer) {
    if (message != nullptr) task_ = std::move(envelope);
    co_return;
  }
  if (!std::ranges::binary_search(neighbours_, from)) co_return;
  const bool awaited = open_.contains(from);
  if (std::holds_alternative<talk::Joined>(envelope.event)) {
    gone_.erase(from);
  } else if (message == nullptr) {
    give_up(from);
  } else if (message->kind == "past") {
    if (awaited && envelope.exchange == now_) give_up(from);
  } else if (envelope.exchange > now_) {
    auto& early = early_[from];
    early.insert_or_assign(envelope.exchange, std::move(*message));
    if (early.size() > kEarlyMax) early.erase(early.begin());
  } else {
    gone_.erase(from);  // it speaks again
    if (awaited && envelope.exchange == now_) {
      accept(from, *message);
    } else {
      Message past("past");
      co_await talk::reply(net, envelope, std::move(past));
    }
  }
}

void Gossip::give_up(PeerId neighbour) {
  open_.erase(neighbour);
  gone_.insert(neighbour);
}

// A value that cannot be used is none.
void Gossip::accept(PeerId from, const Message& message) {
  open_.erase(from);
  const auto reason = talk::refusal_of([&] {
    const auto value =
        wire::Expect(message, "gossip").f32("value", {static_cast<std::int64_t>(size_)});
    require_values(message);
    theirs_[from].assign(value.begin(), value.end());
  });
  if (reason) gone_.insert(from);
}

Task<std::optional<Gossip::All>> Gossip::exchange(Endpoint& net, ExchangeId number,
                                                  std::vector<PeerId> with,
                                                  std::vector<float> value) {
  if (number <= now_) throw ProtocolError("the server asks for a round that is over");
  now_ = number;
  size_ = value.size();
  open_.clear();
  theirs_.clear();
  const SharedMessage message = wire::share(
      Message("gossip").with("value", Tensor::of(value, {static_cast<std::int64_t>(size_)})));
  const std::vector<PeerId> present = net.peers();
  std::map<PeerId, std::vector<float>> ours;
  for (const PeerId neighbour : with) {
    if (!std::ranges::binary_search(present, neighbour)) continue;
    Endpoint::Seen seen = [&read = ours[neighbour]](const Message& as_read) {
      const auto values = as_read.tensors.at("value").f32();
      read.assign(values.begin(), values.end());
    };
    co_await net.send_seen(neighbour, number, message, std::move(seen));
    if (!gone_.contains(neighbour)) open_.insert(neighbour);
    auto& early = early_[neighbour];
    early.erase(early.begin(), early.lower_bound(number));
    if (const auto found = early.extract(number); !found.empty()) {
      accept(neighbour, found.mapped());
    }
  }
  const TimePoint until = net.now() + seconds(patience_s_);
  while (!open_.empty() && !task_) {
    std::optional<talk::Envelope> envelope = co_await net.receive(until);
    if (!envelope) break;
    if (std::holds_alternative<talk::Closed>(envelope->event)) co_return std::nullopt;
    co_await hear(net, std::move(*envelope));
  }
  gone_.merge(open_);
  open_.clear();
  All all;
  for (auto& [neighbour, read] : theirs_) {
    all.emplace(neighbour, Exchanged{std::move(ours.at(neighbour)), std::move(read)});
  }
  co_return all;
}

std::unique_ptr<ServerMethod> make_gossip_server(const config::Options& options) {
  return std::make_unique<GossipServer>(dynamic_cast<const GossipOptions&>(options));
}

std::unique_ptr<ClientMethod> make_gossip_client(const config::Options& options,
                                                 const JobPlan& plan,
                                                 std::unique_ptr<GossipWork> work) {
  return std::make_unique<GossipClient>(dynamic_cast<const GossipOptions&>(options), plan,
                                        std::move(work));
}

MethodEntry gossip_entry(config::Kind kind) {
  MethodEntry entry;
  entry.kind = std::move(kind);
  entry.needs = "gradients";
  entry.payload = "needs_each_update";
  entry.rung = 3;
  entry.alike = false;
  entry.mean_only = entry.whole_cohort = entry.own_feedback = true;
  entry.neighbours = [](const config::Options& options, std::int64_t clients, PeerId client) {
    return Graph(dynamic_cast<const GossipOptions&>(options).graph, clients).neighbours(client);
  };
  entry.make_server = [](const config::Options& options, const JobPlan&) {
    return make_gossip_server(options);
  };
  return entry;
}

}  // namespace fedctl::methods
