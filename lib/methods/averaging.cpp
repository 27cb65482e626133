#include "methods/detail/averaging.hpp"

#include <algorithm>
#include <limits>

#include "methods/detail/combined.hpp"
#include "methods/detail/inspection.hpp"

namespace fedctl::methods {
namespace {

class AveragingClient final : public RoundClient {
 public:
  explicit AveragingClient(MakeHook make_hook) : make_hook_(std::move(make_hook)) {}

  Work work(const Message& task, ClientContext& ctx) override {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    const auto size = static_cast<std::int64_t>(ctx.plan.layout.size());
    const std::span<const float> start = expect.f32("weights", {size});

    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    std::ranges::copy(start, learner->weights().begin());
    const learn::GradientHook hook = make_hook_ ? make_hook_(start) : learn::GradientHook{};
    const learn::TrainReport report =
        learn::train(*learner, ctx.data, ctx.train, ctx.plan.train, hook,
                     ctx.rng.stream("order", round), {round, ctx.plan.rounds});
    return {update_of(learner->weights(), start, report), report.steps};
  }

 private:
  MakeHook make_hook_;
};

}  // namespace

Message update_of(std::span<const float> trained, std::span<const float> start,
                  const learn::TrainReport& report) {
  Tensor delta = Tensor::zeros(DType::f32, {static_cast<std::int64_t>(start.size())});
  std::ranges::transform(trained, start, delta.f32().begin(),
                         [](float to, float from) { return to - from; });
  return Message("update")
      .with("examples", report.examples)
      .with("loss", report.loss)
      .with("steps", report.steps)
      .with("delta", std::move(delta));
}

AveragingServer::AveragingServer(std::unique_ptr<aggregate::ServerOptimizer> optimizer)
    : optimizer_(std::move(optimizer)) {}

SharedMessage AveragingServer::instruct(std::int64_t round, PeerId, ServerContext& ctx) {
  if (round != task_round_) {
    task_ = wire::share(
        Message("train").with("round", round).with("weights", Tensor::of(ctx.weights, {})));
    task_round_ = round;
  }
  return task_;
}

void AveragingServer::inspect(PeerId from, const Message& reply, const ServerContext& ctx) {
  const wire::Expect update(reply, "update");
  update.f32("delta", {static_cast<std::int64_t>(ctx.weights.size())});
  require_report(reply, from, ctx.plan);
}

std::optional<Message> AveragingServer::blank(const ServerContext& ctx) const {
  return Message("update").with(
      "delta", Tensor::zeros(DType::f32, {static_cast<std::int64_t>(ctx.weights.size())}));
}

RoundServer::Merged AveragingServer::merge(std::int64_t, const Replies& replies,
                                           ServerContext& ctx) {
  task_.reset();  // everyone has it who answered
  task_round_ = 0;
  Merged merged;
  const auto take = [&merged](PeerId peer, const Message& reply) {
    const std::int64_t examples = add_report(merged, reply);
    return aggregate::Contribution{peer, static_cast<double>(examples),
                                   reply.tensors.at("delta").f32()};
  };
  const std::vector<float> delta = combine_replies(replies, take, ctx, ctx.weights.size());
  finish(merged);
  optimizer_->step(ctx.weights, delta);
  return merged;
}

Message AveragingServer::save() const {
  Message state("state");
  state.tensors = optimizer_->state();
  return state;
}

void AveragingServer::load(const Message& state) { optimizer_->restore(state.tensors); }

AveragingOptions::AveragingOptions()
    : server_optimizer(config::make_plugin(aggregate::server_optimizer_kinds(), "sgd")) {}

void AveragingOptions::fields(config::Fields& fields) {
  fields.plugin("server_optimizer", server_optimizer, aggregate::server_optimizer_kinds(),
                "what the server does with the mean update");
}

std::unique_ptr<aggregate::ServerOptimizer> make_server_optimizer(const AveragingOptions& options,
                                                                  const JobPlan& plan) {
  const config::Plugin& chosen = options.server_optimizer;
  for (const aggregate::ServerOptimizerEntry& entry : aggregate::server_optimizers()) {
    if (entry.kind.name == chosen.kind) return entry.make(*chosen.options, plan.layout.size());
  }
  throw ConfigError("no server optimizer \"" + chosen.kind + '"', "fedctl list optimizers");
}

std::unique_ptr<ServerMethod> make_stepping_server(
    std::unique_ptr<aggregate::ServerOptimizer> optimizer) {
  return std::make_unique<AveragingServer>(std::move(optimizer));
}

std::unique_ptr<ServerMethod> make_averaging_server(const config::Options& options,
                                                    const JobPlan& plan) {
  return make_stepping_server(
      make_server_optimizer(dynamic_cast<const AveragingOptions&>(options), plan));
}

std::unique_ptr<ClientMethod> make_averaging_client(MakeHook make_hook) {
  return std::make_unique<AveragingClient>(std::move(make_hook));
}

}  // namespace fedctl::methods
