#include "methods/detail/buffered.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "math/vectors.hpp"
#include "methods/detail/holdout.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {
namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

const char* tensor_name(const BufferedPlan& plan) {
  return plan.sends_weights ? "weights" : "delta";
}

class BufferedServer final : public ServerMethod {
 public:
  BufferedServer(const BufferedPlan& plan, std::unique_ptr<BufferedStep> step)
      : plan_(plan), step_(std::move(step)) {}

  Task<void> run(Endpoint& net, ServerContext& ctx) override {
    version_ = ctx.first_round - 1;
    begin_step(net, ctx);
    // Those that were at work when the server was killed.
    const std::map<PeerId, std::int64_t> open = working_;
    for (const auto& [peer, exchange] : open) {
      SharedMessage task = task_of(ctx);
      co_await net.send(peer, static_cast<ExchangeId>(exchange), std::move(task));
    }
    while (version_ < ctx.plan.rounds) {
      co_await fill(net, ctx);
      const std::optional<talk::Envelope> envelope = co_await net.receive(until_);
      if (!envelope) {
        wait_on(ctx);
        continue;
      }
      if (std::holds_alternative<talk::Closed>(envelope->event)) {
        throw ProtocolError("the run was closed while answers were awaited");
      }
      hear(*envelope, ctx);
      if (static_cast<std::int64_t>(buffer_.size()) < plan_.buffer) continue;
      if (!take_step(net, ctx)) co_return;
    }
  }

  Message save() const override {
    Message state = step_->save();
    state.scalars.emplace("questions", questions_);
    state.tensors.emplace("working", by_peer(working_));
    return state;
  }
  void load(const Message& state) override {
    questions_ = wire::Expect(state, "state").integer("questions", 0, kCountMax);
    working_ = by_peer_in(state, "working");
    Message rest = state;
    rest.scalars.erase("questions");
    rest.tensors.erase("working");
    step_->load(rest);
  }

 private:
  void begin_step(Endpoint& net, ServerContext& ctx) {
    began_ = net.now();
    until_ = began_ + seconds(ctx.plan.deadline_max_s());
    report_ = {.round = version_ + 1};
    report_.deadline_ms = ctx.plan.deadline_max_s() * 1e3;
    waits_ = 0;
    task_.reset();
    refused_.clear();
  }

  SharedMessage task_of(ServerContext& ctx) {
    if (!task_) {
      task_ = wire::share(Message("train")
                              .with("round", version_ + 1)
                              .with("weights", Tensor::of(ctx.weights, {})));
    }
    return task_;
  }

  // Gives work to clients until per_round have some.
  Task<void> fill(Endpoint& net, ServerContext& ctx) {
    while (static_cast<std::int64_t>(working_.size()) < ctx.plan.per_round) {
      const std::optional<PeerId> peer = next_client(net, ctx);
      if (!peer) co_return;
      working_[*peer] = ++questions_;
      ++report_.clients;
      SharedMessage task = task_of(ctx);
      co_await net.send(*peer, static_cast<ExchangeId>(questions_), std::move(task));
    }
  }

  // Any that is idle; of those whose answers are in the buffer only if nobody else is left.
  std::optional<PeerId> next_client(Endpoint& net, ServerContext& ctx) const {
    std::vector<PeerId> idle, waiting;
    for (const PeerId peer : net.peers()) {
      if (working_.contains(peer) || refused_.contains(peer)) continue;
      const bool in_buffer =
          std::ranges::any_of(buffer_, [&](const Arrived& one) { return one.from == peer; });
      (in_buffer ? waiting : idle).push_back(peer);
    }
    if (idle.empty() && working_.empty()) idle = waiting;
    if (idle.empty()) return std::nullopt;
    Rng draw = ctx.rng.stream("sampling", questions_ + 1);
    return idle[static_cast<std::size_t>(draw.below(idle.size()))];
  }

  void hear(const talk::Envelope& envelope, ServerContext& ctx) {
    const PeerId from = envelope.from;
    const auto open = working_.find(from);
    if (std::holds_alternative<talk::Joined>(envelope.event)) {
      // Back as another process that knows nothing of its question.
      working_.erase(from);
    } else if (std::holds_alternative<talk::Lost>(envelope.event)) {
      report_.lost += static_cast<std::int64_t>(working_.erase(from));
    } else if (open == working_.end() ||
               static_cast<ExchangeId>(open->second) != envelope.exchange) {
      ctx.journal.write(version_ + 1, journal::Event("late").about(from));
    } else {
      working_.erase(open);
      if (const auto reason = talk::refusal_of([&] { accept(envelope, ctx); })) {
        refused_.insert(from);
        reject(from, *reason, ctx);
      }
    }
  }

  void reject(PeerId from, const std::string& reason, ServerContext& ctx) {
    ++report_.rejected;
    ctx.journal.write(version_ + 1, journal::Event("reject").about(from).set("reason", reason));
  }

  void accept(const talk::Envelope& envelope, ServerContext& ctx) {
    if (const auto* rejected = std::get_if<talk::Rejected>(&envelope.event)) {
      throw ProtocolError(rejected->reason);
    }
    const auto& answer = std::get<Message>(envelope.event);
    require_work(answer);
    const wire::Expect update(answer, "update");
    const auto values =
        update.f32(tensor_name(plan_), {static_cast<std::int64_t>(ctx.weights.size())});
    require_norm(answer, ctx.plan);
    const std::int64_t examples = require_report(answer, envelope.from, ctx.plan);
    const std::int64_t staleness = version_ - update.integer("version", 0, version_);
    if (plan_.staleness_max > 0 && staleness > plan_.staleness_max) {
      // Not its fault: it may try again at once.
      reject(envelope.from,
             "it began " + std::to_string(staleness) + " versions ago, method.staleness_max is " +
                 std::to_string(plan_.staleness_max),
             ctx);
      return;
    }
    if (const auto scores = reported_holdout(answer)) report_.client_scores.push_back(*scores);
    ++report_.replied;
    report_.examples += examples;
    report_.train_loss += static_cast<double>(examples) * update.real("loss");
    report_.staleness = report_.staleness.value_or(0) + static_cast<double>(staleness);
    report_.order.emplace_back(envelope.from, version_ - staleness);
    note_digest(envelope.from, answer, ctx.plan, report_);
    buffer_.push_back({envelope.from, envelope.exchange, staleness,
                       std::vector<float>(values.begin(), values.end())});
  }

  // False: stop here.
  bool take_step(Endpoint& net, ServerContext& ctx) {
    report_.train_ms = to_ms(net.now() - began_);
    report_.train_loss /= static_cast<double>(report_.examples);
    *report_.staleness /= static_cast<double>(report_.replied);
    std::ranges::sort(buffer_, {},
                      [](const Arrived& one) { return std::pair(one.from, one.exchange); });
    const auto started = std::chrono::steady_clock::now();
    const std::vector<float> before = ctx.weights;
    step_->step(buffer_, ctx);
    report_.update_norm = math::distance(before, ctx.weights);
    report_.aggregate_ms = to_ms(std::chrono::steady_clock::now() - started);
    buffer_.clear();
    ++version_;
    const bool more = ctx.sink.commit(report_, *this);
    begin_step(net, ctx);
    return more;
  }

  // The deadline has passed. What has arrived stays.
  void wait_on(const ServerContext& ctx) {
    const std::string why = "step " + std::to_string(version_ + 1) + ": " +
                            std::to_string(buffer_.size()) + " of " +
                            std::to_string(plan_.buffer) + " answers within " +
                            std::to_string(ctx.plan.deadline_max_s()) + " s";
    lack(++waits_, report_, why, "lower method.buffer or raise clients.deadline_s", ctx);
    until_ += seconds(ctx.plan.deadline_max_s());
  }

  BufferedPlan plan_;
  std::unique_ptr<BufferedStep> step_;
  std::int64_t version_ = 0;                // steps taken
  std::int64_t questions_ = 0;              // asked so far: the number of the last exchange
  std::map<PeerId, std::int64_t> working_;  // exchange of each client at work
  std::vector<Arrived> buffer_;
  // Whose answers to this step could not be used: asked again at once they would answer the same,
  // and nobody else would be heard.
  std::set<PeerId> refused_;
  RoundReport report_;  // of the step that is waited for
  TimePoint began_{}, until_{};
  std::int64_t waits_ = 0;  // deadlines of this step that have passed
  SharedMessage task_;
};

class BufferedClient final : public RoundClient {
 public:
  BufferedClient(const BufferedPlan& plan, double mu) : plan_(plan), mu_(mu) {}

  Work work(const Message& task, ClientContext& ctx) override {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    const auto size = static_cast<std::int64_t>(ctx.plan.layout.size());
    const std::span<const float> start = expect.f32("weights", {size});
    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    std::ranges::copy(start, learner->weights().begin());
    learn::GradientHook pull;
    if (mu_ > 0) {
      pull = [&](std::span<const float> weights, std::span<float> gradient) {
        for (std::size_t i = 0; i < gradient.size(); ++i) {
          gradient[i] += static_cast<float>(mu_ * (double{weights[i]} - start[i]));
        }
      };
    }
    const learn::TrainReport report = learn::train(
        *learner, ctx.data, ctx.train, ctx.plan.train, pull, ctx.rng.stream("order", round),
        {std::min(round, ctx.plan.rounds), ctx.plan.rounds});
    Tensor values = Tensor::of(learner->weights(), {});
    if (!plan_.sends_weights) {
      for (std::size_t i = 0; i < start.size(); ++i) values.f32()[i] -= start[i];
    }
    return {Message("update")
                .with("version", round - 1)
                .with("examples", report.examples)
                .with("loss", report.loss)
                .with("steps", report.steps)
                .with(tensor_name(plan_), std::move(values)),
            report.steps};
  }

 private:
  BufferedPlan plan_;
  double mu_;
};

}  // namespace

void StalenessOptions::fields(config::Fields& fields) {
  fields.text("staleness", kind, {.one_of = {"constant", "polynomial", "hinge"}},
              "how an answer that began so many versions ago counts");
  fields.real("staleness_a", a, {.above = 0}, "a: exponent of polynomial, slope of hinge");
  fields.real("staleness_b", b, {.min = 0}, "b: versions that hinge counts in full");
}

double StalenessOptions::weight(std::int64_t staleness) const {
  const auto age = static_cast<double>(staleness);
  if (kind == "polynomial") return std::pow(1 + age, -a);
  if (kind == "hinge") return age <= b ? 1 : 1 / (a * (age - b) + 1);
  return 1;
}

std::unique_ptr<ServerMethod> make_buffered_server(const BufferedPlan& plan,
                                                   std::unique_ptr<BufferedStep> step) {
  return std::make_unique<BufferedServer>(plan, std::move(step));
}

std::unique_ptr<ClientMethod> make_buffered_client(const BufferedPlan& plan, double mu) {
  return std::make_unique<BufferedClient>(plan, mu);
}

}  // namespace fedctl::methods
