// CO2: Sun, Qin, Sun, Li, Li, Shen, Qiao, Zhong, "CO2: efficient distributed training with full
// communication-computation overlap", ICLR 2024, arXiv 2401.16265. Local training and an outer step
// with momentum, one period late: while the differences of a period are averaged, the clients train
// the next.
//
//   server -> client  "train"   {"round" = t; f32 "weights" x [d] of period t + 1 (delay: false:
//   t)} client            has trained period t by now, behind its last answer client -> server
//   "update"  {f32 "delta" [d] = end - start of period t; "examples", "loss",
//                     "steps"}
//   server            m <- beta m - mean delta / gap, cut to +-clip;  x <- x - lr m
//
// Payload 4 d each way, the codec's up. A client that has nothing trained yet trains on the spot;
// then the first two periods begin at the same weights, as in the paper.
//
// Unconfirmed: the paper's staleness gap. gap: constant is the official code's; measured is
// 1 + |x_t - x_t-1| / |mean delta|.
#include <algorithm>
#include <cmath>

#include "aggregate/server_optimizer.hpp"
#include "math/vectors.hpp"
#include "methods/detail/averaging.hpp"
#include "methods/detail/local.hpp"
#include "methods/detail/states.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

MethodEntry co2();

namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

struct Co2Options final : config::Options {
  double lr = 1, momentum = 0.5, clip = 0, gap_value = 1;
  std::string gap = "constant";
  bool delay = true, ablate = false;
  void fields(config::Fields& fields) override {
    fields.real("lr", lr, {.above = 0}, "outer learning rate");
    fields.real("momentum", momentum, {.min = 0, .below = 1}, "outer momentum");
    fields.text("gap", gap, {.one_of = {"constant", "measured"}},
                "what a late difference is divided by");
    fields.real("gap_value", gap_value, {.min = 1}, "of gap: constant");
    fields.real("clip", clip, {.min = 0}, "largest magnitude in the momentum; 0: any");
    fields.boolean("delay", delay, "train the next period while this one is averaged");
    fields.boolean("ablate", ablate, "gap 1 and no clip");
  }
};

// The outer step, as FedAvg's server takes it: `delta` is the mean of end - start.
class Co2Step final : public aggregate::ServerOptimizer {
 public:
  Co2Step(const Co2Options& options, std::size_t size) : options_(options), momentum_(size) {
    if (!options_.ablate) return;
    options_.gap = "constant";
    options_.gap_value = 1;
    options_.clip = 0;
  }

  void step(std::span<float> weights, std::span<const float> delta) override {
    double gap = options_.gap_value;
    if (options_.gap == "measured") {
      gap = 1 + options_.lr * math::norm(momentum_) / std::max(1e-30, math::norm(delta));
    }
    const auto share = static_cast<float>(1 / gap), beta = static_cast<float>(options_.momentum);
    const auto most = static_cast<float>(options_.clip), lr = static_cast<float>(options_.lr);
    for (std::size_t i = 0; i < delta.size(); ++i) {
      momentum_[i] = beta * momentum_[i] - share * delta[i];
      if (most > 0) momentum_[i] = std::clamp(momentum_[i], -most, most);
      weights[i] -= lr * momentum_[i];
    }
  }

  TensorMap state() const override { return {{"m", Tensor::of(momentum_, {})}}; }
  void restore(const TensorMap& state) override {
    Message message("state");
    message.tensors = state;
    std::vector<float> kept = floats_in(message, "m", momentum_.size());
    if (state.size() != 1 || kept.empty()) throw WireError("co2: no momentum in the state");
    momentum_ = std::move(kept);
  }

 private:
  Co2Options options_;
  std::vector<float> momentum_;  // m
};

class Co2Client final : public RoundClient {
 public:
  bool rests() const override { return false; }
  Co2Client(const Co2Options& options, const JobPlan& plan)
      : options_(options), size_(plan.layout.size()), local_(plan) {}

  Work work(const Message& task, ClientContext& ctx) override {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    const auto weights = expect.f32("weights", {static_cast<std::int64_t>(size_)});
    std::int64_t steps = 0;
    if (!trained_for(round)) {
      if (round_ != round - 1 || next_.empty()) next_.assign(weights.begin(), weights.end());
      round_ = round - 1;
      steps = train(ctx);
    }
    Message answer = Message("update")
                         .with("examples", static_cast<std::int64_t>(ctx.train.size()))
                         .with("loss", loss_)
                         .with("steps", steps_)
                         .with("delta", Tensor::of(delta_, {}));
    delta_.clear();
    round_ = round;
    next_.assign(weights.begin(), weights.end());
    if (!options_.delay) next_.clear();
    return {std::move(answer), steps};
  }

  // The next period, from the weights that the last task brought.
  std::int64_t ahead(ClientContext& ctx) override {
    if (!options_.delay || round_ == ctx.plan.rounds || next_.empty()) return 0;
    return train(ctx);
  }

  Message save() const override {
    Message state("state");
    if (round_ == 0) return state;
    state.scalars.emplace("round", round_);
    state.scalars.emplace("loss", loss_);
    state.scalars.emplace("steps", steps_);
    if (!next_.empty()) state.tensors.emplace("next", Tensor::of(next_, {}));
    if (!delta_.empty()) state.tensors.emplace("delta", Tensor::of(delta_, {}));
    local_.save(state);
    return state;
  }
  void load(const Message& state) override {
    if (!state.scalars.contains("round")) return;
    const wire::Expect fields(state, "state");
    round_ = fields.integer("round", 1, kRoundsMax);
    loss_ = fields.real("loss");
    steps_ = fields.integer("steps", 0, kCountMax);
    next_ = floats_in(state, "next", size_);
    delta_ = floats_in(state, "delta", size_);
    local_.load(state);
  }

 private:
  bool trained_for(std::int64_t round) const { return !delta_.empty() && round_ == round - 1; }

  // Period round_ + 1, from next_.
  std::int64_t train(ClientContext& ctx) {
    local_.weights() = next_;
    const learn::TrainReport report =
        local_.train("order", round_ + 1, learn::steps_of(ctx.plan.train, ctx.train.size()), ctx);
    delta_ = std::exchange(next_, {});
    for (std::size_t i = 0; i < delta_.size(); ++i) delta_[i] = local_.weights()[i] - delta_[i];
    loss_ = report.loss;
    steps_ = report.steps;
    return report.steps;
  }

  Co2Options options_;
  std::size_t size_;
  LocalTraining local_;
  std::int64_t round_ = 0;    // answered last
  std::vector<float> next_;   // where period round_ + 1 begins; empty if it has been trained
  std::vector<float> delta_;  // what came of it
  double loss_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace

MethodEntry co2() {
  return {.kind = {"co2", "local training and outer momentum, one period late: no waiting",
                   "Sun et al., ICLR 2024, arXiv 2401.16265",
                   [] { return std::make_unique<Co2Options>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .sums = true,
          .whole_cohort = true,
          .make_server =
              [](const config::Options& options, const JobPlan& plan) {
                return make_stepping_server(std::make_unique<Co2Step>(
                    dynamic_cast<const Co2Options&>(options), plan.layout.size()));
              },
          .make_client =
              [](const config::Options& options, const JobPlan& plan) {
                return std::make_unique<Co2Client>(dynamic_cast<const Co2Options&>(options), plan);
              }};
}

}  // namespace fedctl::methods
