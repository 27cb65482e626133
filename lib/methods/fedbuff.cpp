// FedBuff: Nguyen et al., "Federated learning with buffered asynchronous aggregation", AISTATS
// 2022, arXiv 2106.06639. x <- x + eta mean over the buffer of s(staleness) delta, through a server
// optimizer. Messages and bytes: detail/buffered.hpp; 4 d down, 4 d and a version up.
//
// Unconfirmed: buffer 10 and s = 1 / sqrt(1 + staleness) as the defaults.
#include "aggregate/server_optimizer.hpp"
#include "methods/detail/averaging.hpp"
#include "methods/detail/buffered.hpp"

namespace fedctl::methods {

MethodEntry fedbuff();

namespace {

struct FedbuffOptions final : config::Options {
  std::int64_t buffer = 10, staleness_max = 0;
  StalenessOptions staleness;
  bool ablate = false;
  AveragingOptions averaging;
  void fields(config::Fields& fields) override {
    fields.integer("buffer", buffer, {1, 1'000'000}, "answers to a step of the server");
    staleness.fields(fields);
    fields.integer("staleness_max", staleness_max, {0, 1'000'000},
                   "answers that began more versions ago are rejected; 0: none is");
    fields.boolean("ablate", ablate, "count old answers like new ones");
    averaging.fields(fields);
  }
};

class FedbuffStep final : public BufferedStep {
 public:
  FedbuffStep(const FedbuffOptions& options, const JobPlan& plan)
      : options_(options), optimizer_(make_server_optimizer(options.averaging, plan)) {}

  void step(std::span<Arrived> answers, ServerContext& ctx) override {
    std::vector<aggregate::Contribution> contributions;
    for (Arrived& answer : answers) {
      const auto weight =
          static_cast<float>(options_.ablate ? 1 : options_.staleness.weight(answer.staleness));
      if (weight != 1) {
        for (float& value : answer.values) value *= weight;
      }
      contributions.push_back({answer.from, 1, answer.values});
    }
    std::vector<float> mean(ctx.weights.size());
    ctx.aggregator.combine(contributions, mean);
    optimizer_->step(ctx.weights, mean);
  }

  Message save() const override {
    Message state("state");
    state.tensors = optimizer_->state();
    return state;
  }
  void load(const Message& state) override { optimizer_->restore(state.tensors); }

 private:
  FedbuffOptions options_;
  std::unique_ptr<aggregate::ServerOptimizer> optimizer_;
};

BufferedPlan plan_of(const FedbuffOptions& options) {
  return {options.buffer, options.staleness_max, false};
}

}  // namespace

MethodEntry fedbuff() {
  return {.kind = {"fedbuff", "no rounds: the server steps whenever a buffer of answers is full",
                   "Nguyen et al., AISTATS 2022, arXiv 2106.06639",
                   [] { return std::make_unique<FedbuffOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 3,
          .alike = false,
          .rounds = false,
          .make_server =
              [](const config::Options& options, const JobPlan& plan) {
                const auto& own = dynamic_cast<const FedbuffOptions&>(options);
                return make_buffered_server(plan_of(own), std::make_unique<FedbuffStep>(own, plan));
              },
          .make_client =
              [](const config::Options& options, const JobPlan&) {
                return make_buffered_client(plan_of(dynamic_cast<const FedbuffOptions&>(options)),
                                            0);
              }};
}

}  // namespace fedctl::methods
