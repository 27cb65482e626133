// FedAsync: Xie, Koyejo, Gupta, "Asynchronous federated optimization", 2019, arXiv 1903.03934.
// Every answer is a step: x <- (1 - a_t) x + a_t x_i, a_t = a s(staleness). Messages and bytes:
// detail/buffered.hpp; 4 d down, 4 d and a version up. The clients' weights travel, not
// differences.
//
// Unconfirmed: mu 0.005.
#include "methods/detail/buffered.hpp"

namespace fedctl::methods {

MethodEntry fedasync();

namespace {

struct FedasyncOptions final : config::Options {
  double mixing = 0.6, mu = 0.005;
  std::int64_t staleness_max = 0;
  StalenessOptions staleness;
  bool ablate = false;
  void fields(config::Fields& fields) override {
    fields.real("mixing", mixing, {.above = 0, .max = 1}, "share a of a fresh answer");
    staleness.fields(fields);
    fields.integer("staleness_max", staleness_max, {0, 1'000'000},
                   "answers that began more versions ago are rejected; 0: none is");
    fields.real("mu", mu, {.min = 0}, "pull towards the weights that a client began with");
    fields.boolean("ablate", ablate, "count old answers like new ones");
  }
};

class FedasyncStep final : public BufferedStep {
 public:
  explicit FedasyncStep(const FedasyncOptions& options) : options_(options) {}
  void step(std::span<Arrived> answers, ServerContext& ctx) override {
    const Arrived& answer = answers[0];
    const double share =
        options_.mixing * (options_.ablate ? 1 : options_.staleness.weight(answer.staleness));
    for (std::size_t i = 0; i < ctx.weights.size(); ++i) {
      ctx.weights[i] = static_cast<float>((1 - share) * ctx.weights[i] + share * answer.values[i]);
    }
  }

 private:
  FedasyncOptions options_;
};

BufferedPlan plan_of(const FedasyncOptions& options) { return {1, options.staleness_max, true}; }

}  // namespace

MethodEntry fedasync() {
  return {.kind = {"fedasync", "no rounds: the server mixes in every answer as it comes",
                   "Xie, Koyejo, Gupta, 2019, arXiv 1903.03934",
                   [] { return std::make_unique<FedasyncOptions>(); }},
          .needs = "gradients",
          .payload = "needs_each_update",
          .rung = 3,
          .alike = false,
          .rounds = false,
          .mean_only = true,
          .own_feedback = true,
          .up_codec = "none",
          .make_server =
              [](const config::Options& options, const JobPlan&) {
                const auto& own = dynamic_cast<const FedasyncOptions&>(options);
                return make_buffered_server(plan_of(own), std::make_unique<FedasyncStep>(own));
              },
          .make_client =
              [](const config::Options& options, const JobPlan&) {
                const auto& own = dynamic_cast<const FedasyncOptions&>(options);
                return make_buffered_client(plan_of(own), own.mu);
              }};
}

}  // namespace fedctl::methods
