#include <algorithm>

#include "math/vectors.hpp"
#include "methods/detail/decoupled.hpp"
#include "methods/detail/holdout.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {
namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

class DecoupledServer final : public ServerMethod {
 public:
  DecoupledServer(const DecoupledOptions& options, const JobPlan& plan)
      : options_(options),
        rota_(options.outer, plan),
        outer_(options.outer, plan),
        grace_(options.grace) {}

  Task<void> run(Endpoint& net, ServerContext& ctx) override {
    merges_ = ctx.first_round - 1;
    begin_merge(net, ctx);
    // Those that were at work when the server was killed.
    const std::map<PeerId, std::int64_t> open = working_;
    for (const auto& [peer, exchange] : open) {
      SharedMessage task = task_for(peer, ctx);
      co_await net.send(peer, static_cast<ExchangeId>(exchange), std::move(task));
    }
    while (merges_ < ctx.plan.rounds) {
      co_await ask_idle(net, ctx);
      const bool enough = static_cast<std::int64_t>(arrived_.size()) >= options_.quorum;
      if (!enough || (!grace_.never() && awaited())) {
        const std::optional<talk::Envelope> envelope = co_await net.receive(until_);
        if (envelope) {
          hear(*envelope, net.now(), ctx);
          continue;
        }
        if (!enough) {
          wait_on(ctx);
          continue;
        }
      }
      if (!merge(net, ctx)) co_return;
    }
  }

  Message save() const override {
    Message state = Message("state")
                        .with("questions", questions_)
                        .with("working", by_peer(working_))
                        .with("answered", by_peer(answered_))
                        .with("unused", by_peer(unused_))
                        .with("steps", by_peer(steps_));
    outer_.save(state);
    grace_.save(state);
    return state;
  }
  void load(const Message& state) override {
    questions_ = wire::Expect(state, "state").integer("questions", 0, kCountMax);
    working_ = by_peer_in(state, "working");
    answered_ = by_peer_in(state, "answered");
    unused_ = by_peer_in(state, "unused");
    steps_ = by_peer_in(state, "steps");
    outer_.load(state);
    grace_.load(state);
  }

 private:
  struct Arrived {
    std::int64_t examples = 0;
    double weight = 0, loss = 0;
    std::vector<float> delta;
  };

  std::int64_t due() const { return merges_ + 1; }  // the merge that is waited for

  void begin_merge(Endpoint& net, ServerContext& ctx) {
    began_ = net.now();
    until_ = began_ + seconds(ctx.plan.deadline_max_s());
    report_ = {.round = due()};
    report_.deadline_ms = ctx.plan.deadline_max_s() * 1e3;
    waits_ = 0;
    arrived_.clear();
    asked_.clear();
    tasks_.clear();
  }

  std::int64_t steps_for(PeerId peer, const ServerContext& ctx) const {
    const auto fewer = steps_.find(peer);
    return fewer == steps_.end() ? ctx.plan.train.steps : fewer->second;
  }

  SharedMessage task_for(PeerId peer, ServerContext& ctx) {
    const std::int64_t from = answered_[peer], steps = steps_for(peer, ctx);
    SharedMessage& task = tasks_[{from, steps}];
    if (!task) {
      task = wire::share(rota_.question(from, due(), ctx.weights).with("steps", steps));
    }
    const auto unused = unused_.find(peer);
    if (unused == unused_.end()) return task;
    return wire::share(Message(*task).with(talk::kUnused, unused->second));
  }

  // Everyone who is idle, once a merge.
  Task<void> ask_idle(Endpoint& net, ServerContext& ctx) {
    for (const PeerId peer : net.peers()) {
      if (working_.contains(peer) || asked_.contains(peer)) continue;
      working_[peer] = ++questions_;
      asked_[peer] = net.now();
      ++report_.clients;
      SharedMessage task = task_for(peer, ctx);
      co_await net.send(peer, static_cast<ExchangeId>(questions_), std::move(task));
    }
  }

  // Whether anyone who was asked for this merge is at work.
  bool awaited() const {
    return std::ranges::any_of(asked_,
                               [&](const auto& entry) { return working_.contains(entry.first); });
  }

  void hear(const talk::Envelope& envelope, TimePoint now, ServerContext& ctx) {
    const PeerId from = envelope.from;
    const auto open = working_.find(from);
    if (std::holds_alternative<talk::Closed>(envelope.event)) {
      throw ProtocolError("the run was closed while answers were awaited");
    }
    if (std::holds_alternative<talk::Joined>(envelope.event)) {
      // Back as another process that knows nothing of its question.
      working_.erase(from);
      if (!arrived_.contains(from)) asked_.erase(from);
    } else if (std::holds_alternative<talk::Lost>(envelope.event)) {
      report_.lost += static_cast<std::int64_t>(working_.erase(from));
    } else if (open == working_.end() ||
               static_cast<ExchangeId>(open->second) != envelope.exchange) {
      ctx.journal.write(due(), journal::Event("late").about(from));
    } else {
      const std::int64_t exchange = open->second;
      working_.erase(open);
      if (const auto reason = talk::refusal_of([&] { accept(envelope, now, ctx); })) {
        unused_[from] = exchange;
        ++report_.rejected;
        ctx.journal.write(due(), journal::Event("reject").about(from).set("reason", *reason));
      }
    }
  }

  void accept(const talk::Envelope& envelope, TimePoint now, ServerContext& ctx) {
    const PeerId from = envelope.from;
    if (const auto* rejected = std::get_if<talk::Rejected>(&envelope.event)) {
      throw ProtocolError(rejected->reason);
    }
    const auto& answer = std::get<Message>(envelope.event);
    if (answer.kind == kBehind) {
      if (std::exchange(answered_[from], 0) > 0) asked_.erase(from);  // asked at once, for once
      throw ProtocolError("it has lost its weights; it gets all of them now");
    }
    require_work(answer);
    const wire::Expect update(answer, "update");
    const std::int64_t round = update.integer("round", 1, due());
    report_.staleness = report_.staleness.value_or(0) + static_cast<double>(due() - round);
    ++heard_;
    if (round < due()) {
      drop(envelope, round, ctx);
      return;
    }
    const std::size_t p = rota_.of_round(round);
    const auto delta =
        update.f32(Rota::named("delta", p), {static_cast<std::int64_t>(rota_.fragment(p).size())});
    require_norm(answer, ctx.plan);
    const std::int64_t examples = require_report(answer, from, ctx.plan);
    const std::int64_t tokens = update.integer("tokens", 0, limits::kExamplesMax);
    const std::int64_t steps = update.integer("token_steps", 0, limits::kExamplesMax);
    const double weight =
        options_.weights == "tokens" ? token_weight(tokens, steps) : static_cast<double>(examples);
    if (weight == 0) throw ProtocolError("no step since it received the fragment");
    if (const auto scores = reported_holdout(answer)) report_.client_scores.push_back(*scores);
    report_.order.emplace_back(from, round - 1);
    note_digest(from, answer, ctx.plan, report_);
    arrived_[from] = {examples, weight, update.real("loss"), {delta.begin(), delta.end()}};
    answered_[from] = round;
    unused_.erase(from);
    if (const auto fewer = steps_.find(from); fewer != steps_.end()) {
      if (++fewer->second >= ctx.plan.train.steps) steps_.erase(fewer);
    }
    const auto count = static_cast<std::int64_t>(arrived_.size());
    if (count > options_.quorum) return;
    if (const auto asked = asked_.find(from); asked != asked_.end() && !options_.ablate) {
      grace_.saw_step(to_ms(now - asked->second) * 1e-3);
    }
    if (count < options_.quorum) return;
    quorum_at_ = now;
    until_ = now + seconds(grace_.seconds());
    grace_.saw_quorum(to_ms(now - began_) * 1e-3);
  }

  // An answer to an earlier merge.
  void drop(const talk::Envelope& envelope, std::int64_t round, ServerContext& ctx) {
    const PeerId from = envelope.from;
    answered_[from] = round;
    unused_[from] = static_cast<std::int64_t>(envelope.exchange);
    if (!options_.ablate) {
      const std::int64_t fewer = steps_for(from, ctx) / (due() - round + 1);
      steps_[from] = std::max({fewer, options_.outer.overlap, std::int64_t{1}});
    }
    ctx.journal.write(
        round, journal::Event("late").about(from).set("staleness", std::int64_t{due() - round}));
  }

  // False: stop here.
  bool merge(Endpoint& net, ServerContext& ctx) {
    report_.train_ms = to_ms(net.now() - began_);
    const std::size_t p = rota_.of_round(due());
    const Fragment& fragment = rota_.fragment(p);
    std::vector<aggregate::Contribution> deltas;
    for (const auto& [peer, answer] : arrived_) {
      deltas.push_back({peer, answer.weight, answer.delta});
      report_.examples += answer.examples;
      report_.train_loss += static_cast<double>(answer.examples) * answer.loss;
    }
    report_.replied = static_cast<std::int64_t>(arrived_.size());
    report_.train_loss /= static_cast<double>(report_.examples);
    *report_.staleness /= static_cast<double>(std::exchange(heard_, 0));
    const auto started = std::chrono::steady_clock::now();
    const std::vector<float> before = ctx.weights;
    std::vector<float> delta(fragment.size());
    std::int64_t means = 0;
    if (options_.merge == "rda") {
      means = combine_radially(deltas, fragment.bounds(ctx.plan.layout), !options_.ablate,
                               ctx.aggregator, delta);
    } else {
      ctx.aggregator.combine(deltas, delta);
    }
    outer_.step(fragment, delta, ctx.weights);
    report_.update_norm = math::distance(before, ctx.weights);
    report_.aggregate_ms = to_ms(std::chrono::steady_clock::now() - started);
    ctx.journal.write(due(), journal::Event("merge")
                                 .set("fragment", static_cast<std::int64_t>(p))
                                 .set("means", means)
                                 .set("grace_ms", to_ms(net.now() - quorum_at_)));
    ++merges_;
    const bool more = ctx.sink.commit(report_, *this);
    begin_merge(net, ctx);
    return more;
  }

  // The deadline has passed. What has arrived stays.
  void wait_on(const ServerContext& ctx) {
    const std::string why = "merge " + std::to_string(due()) + ": " +
                            std::to_string(arrived_.size()) + " of " +
                            std::to_string(options_.quorum) + " answers within " +
                            std::to_string(ctx.plan.deadline_max_s()) + " s";
    lack(++waits_, report_, why, "lower method.quorum or raise clients.deadline_s", ctx);
    until_ += seconds(ctx.plan.deadline_max_s());
  }

  DecoupledOptions options_;
  Rota rota_;
  OuterStep outer_;
  Grace grace_;
  std::int64_t merges_ = 0;
  std::int64_t questions_ = 0;               // asked so far: the number of the last exchange
  std::map<PeerId, std::int64_t> working_;   // exchange of each client at work
  std::map<PeerId, std::int64_t> answered_;  // the last question that it has taken in
  std::map<PeerId, std::int64_t> unused_;    // exchange of an answer that was not used
  std::map<PeerId, std::int64_t> steps_;     // of those asked for fewer than train.steps
  // Of the merge that is waited for:
  std::map<PeerId, TimePoint> asked_;
  std::map<PeerId, Arrived> arrived_;
  std::int64_t heard_ = 0;  // answers, late ones too
  std::int64_t waits_ = 0;  // deadlines that have passed
  RoundReport report_;
  TimePoint began_{}, quorum_at_{}, until_{};
  std::map<std::pair<std::int64_t, std::int64_t>, SharedMessage> tasks_;  // by from and steps
};

}  // namespace

std::unique_ptr<ServerMethod> make_decoupled_server(const DecoupledOptions& options,
                                                    const JobPlan& plan) {
  if (options.quorum > plan.clients) {
    throw ConfigError("method.quorum is " + std::to_string(options.quorum) +
                          ", but clients.count is " + std::to_string(plan.clients),
                      "a merge cannot wait for more answers than there are clients");
  }
  return std::make_unique<DecoupledServer>(options, plan);
}

}  // namespace fedctl::methods
