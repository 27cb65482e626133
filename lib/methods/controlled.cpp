#include "methods/detail/controlled.hpp"

#include <algorithm>
#include <limits>

#include "math/vectors.hpp"
#include "methods/detail/combined.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {
namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

class ControlledServer final : public RoundServer {
 public:
  ControlledServer(double lr, std::size_t size) : lr_(lr), control_(size) {}

  SharedMessage instruct(std::int64_t round, PeerId, ServerContext& ctx) override {
    if (round != task_round_) {
      task_ = wire::share(Message("train")
                              .with("round", round)
                              .with("weights", Tensor::of(ctx.weights, {}))
                              .with("control", Tensor::of(control_, {})));
      task_round_ = round;
    }
    return task_;
  }

  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override {
    const wire::Expect update(reply, "update");
    update.f32("increment", {static_cast<std::int64_t>(ctx.weights.size())});
    require_report(reply, from, ctx.plan);
    require_path(reply, from, ctx.plan);
    used_.require_same(from, reply);
  }

  Merged merge(std::int64_t, const Replies& replies, ServerContext& ctx) override {
    Merged merged;
    double path = 0;
    const auto take = [&](PeerId peer, const Message& reply) {
      add_report(merged, reply);
      path += wire::Expect(reply, "update").real("path");
      used_.add(peer);
      return aggregate::Contribution{peer, 1, reply.tensors.at("increment").f32()};
    };
    const std::vector<float> mean = combine_replies(replies, take, ctx, ctx.weights.size());
    finish(merged);
    const auto answered = static_cast<double>(replies.size());
    const double step = lr_ * path / answered;
    const double share = answered / static_cast<double>(ctx.plan.clients);
    for (std::size_t i = 0; i < mean.size(); ++i) {
      const double moved = double{mean[i]} + control_[i];
      ctx.weights[i] = static_cast<float>(ctx.weights[i] - step * moved);
      control_[i] = static_cast<float>(control_[i] + share * mean[i]);
    }
    return merged;
  }

  Message save() const override {
    return Message("state").with("control", Tensor::of(control_, {})).with("used", used_.save());
  }
  void load(const Message& state) override {
    const wire::Expect fields(state, "state");
    const auto control = fields.f32("control", {static_cast<std::int64_t>(control_.size())});
    control_.assign(control.begin(), control.end());
    used_.load(state, "used");
  }

 private:
  double lr_;
  std::vector<float> control_;  // c
  UsedAnswers used_;
  std::int64_t task_round_ = 0;
  SharedMessage task_;
};

class ControlledClient final : public RoundClient {
 public:
  ControlledClient(MakeIncrement make_increment, std::size_t size)
      : make_increment_(std::move(make_increment)), control_(size) {}

  Work work(const Message& task, ClientContext& ctx) override {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    const auto size = static_cast<std::int64_t>(control_.size());
    const std::span<const float> start = expect.f32("weights", {size});
    const std::span<const float> server = expect.f32("control", {size});

    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    std::ranges::copy(start, learner->weights().begin());
    const learn::GradientHook correct = [&](std::span<const float>, std::span<float> gradient) {
      for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += server[i] - control_[i];
    };
    const learn::TrainReport report =
        learn::train(*learner, ctx.data, ctx.train, ctx.plan.train, correct,
                     ctx.rng.stream("order", round), {round, ctx.plan.rounds});
    Tensor increment = Tensor::zeros(DType::f32, {size});
    const std::span<const float> end = learner->weights();
    for (std::size_t i = 0; i < control_.size(); ++i) {
      const double slope = (double{start[i]} - end[i]) / report.path;
      increment.f32()[i] = static_cast<float>(slope - server[i]);
    }
    make_increment_(control_, memory_, increment.f32());
    return {Message("update")
                .with("examples", report.examples)
                .with("loss", report.loss)
                .with("steps", report.steps)
                .with("path", report.path)
                .with("used", used_)
                .with("increment", std::move(increment)),
            report.steps};
  }

  bool follows() const override { return true; }
  // c_i follows the increment that the server reads, not the one that was meant.
  void answered(ExchangeId exchange, const Message& as_read) override {
    const std::span<const float> sent = as_read.tensors.at("increment").f32();
    last_.assign(sent.begin(), sent.end());
    last_exchange_ = exchange;
    for (std::size_t i = 0; i < control_.size(); ++i) control_[i] += last_[i];
    ++used_;
  }
  void unused(ExchangeId exchange) override {
    if (exchange != last_exchange_ || last_.empty()) return;
    for (std::size_t i = 0; i < control_.size(); ++i) control_[i] -= last_[i];
    last_.clear();
    --used_;
  }

  Message save() const override {
    Message state = Message("state")
                        .with("used", used_)
                        .with("exchange", static_cast<std::int64_t>(last_exchange_))
                        .with("control", Tensor::of(control_, {}));
    if (!last_.empty()) state.tensors.emplace("last", Tensor::of(last_, {}));
    if (!memory_.empty()) state.tensors.emplace("memory", Tensor::of(memory_, {}));
    return state;
  }
  void load(const Message& state) override {
    const wire::Expect fields(state, "state");
    used_ = fields.integer("used", 0, kCountMax);
    last_exchange_ = static_cast<ExchangeId>(fields.integer("exchange", 0, kCountMax));
    const std::size_t size = control_.size();
    const auto control = fields.f32("control", {static_cast<std::int64_t>(size)});
    control_.assign(control.begin(), control.end());
    last_ = floats_in(state, "last", size);
    memory_ = floats_in(state, "memory", size);
  }

 private:
  MakeIncrement make_increment_;
  std::vector<float> control_;  // c_i
  std::vector<float> memory_;
  std::vector<float> last_;  // q_i of the last answer; empty if it was taken back
  ExchangeId last_exchange_ = 0;
  std::int64_t used_ = 0;
};

}  // namespace

std::int64_t UsedAnswers::of(PeerId client) const {
  const auto known = used_.find(client);
  return known == used_.end() ? 0 : known->second;
}

void UsedAnswers::require_same(PeerId client, const Message& update) const {
  const std::int64_t theirs = wire::Expect(update, "update").integer("used", 0, kCountMax);
  if (of(client) == theirs) return;
  throw ProtocolError("its control variate has gone: " + std::to_string(of(client)) +
                      " of its updates are in the model, it knows of " + std::to_string(theirs) +
                      "; a client of this method needs its --state-dir");
}

Tensor UsedAnswers::save() const { return by_peer(used_); }
void UsedAnswers::load(const Message& state, const char* name) { used_ = by_peer_in(state, name); }

void ControlledOptions::fields(config::Fields& fields) {
  fields.real("server_lr", server_lr, {.above = 0}, "times the clients' mean step");
}

std::unique_ptr<ServerMethod> make_controlled_server(const config::Options& options,
                                                     const JobPlan& plan) {
  return std::make_unique<ControlledServer>(
      dynamic_cast<const ControlledOptions&>(options).server_lr, plan.layout.size());
}

std::unique_ptr<ClientMethod> make_controlled_client(MakeIncrement make_increment,
                                                     const JobPlan& plan) {
  return std::make_unique<ControlledClient>(std::move(make_increment), plan.layout.size());
}

}  // namespace fedctl::methods
