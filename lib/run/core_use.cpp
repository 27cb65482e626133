#include "run/core_use.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/clock.hpp"
#include "run/text.hpp"

namespace fedctl::run {
namespace {

constexpr double kWorthMeasuringS = 20;  // of work on one core
constexpr double kFaster = 1.05;         // or it is not worth a change
constexpr int kTurnsMin = 2, kTurnsMax = 50;
constexpr double kLongEnoughMs = 20;

struct Step {
  double ms = 0;
  std::vector<float> gradient;
};

// The shortest of some steps: the first touches memory for the first time, and others are
// disturbed.
Step step_on(Job& job, std::size_t threads) {
  learn::LearnerPool::Lease learner = job.learners->acquire();
  learner->set_threads(threads);
  std::ranges::copy(job.plan.initial, learner->weights().begin());
  const auto size = static_cast<std::size_t>(job.plan.train.batch_size);
  const std::vector<std::size_t>& share = job.shares[0].train;
  const data::Batch batch =
      job.data.train->gather(std::span(share).first(std::min(size, share.size())));
  Step step;
  double all_ms = 0;
  for (int turn = 0; turn < kTurnsMin || (turn < kTurnsMax && all_ms < kLongEnoughMs); ++turn) {
    const auto start = std::chrono::steady_clock::now();
    learner->loss_and_gradient(batch);
    const double ms = to_ms(std::chrono::steady_clock::now() - start);
    all_ms += ms;
    step.ms = turn == 0 ? ms : std::min(step.ms, ms);
  }
  const auto gradient = learner->gradient();
  step.gradient.assign(gradient.begin(), gradient.end());
  return step;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

std::string CoreUse::text() const {
  const bool shared = threads_each > 1;
  std::string words = shared ? "one client at a time on " + std::to_string(threads_each) + " cores"
                             : "one client a core, " + std::to_string(workers) + " at once";
  if (shared_step_ms > 0) {
    words += print(" (a step takes %.2f ms on one core, %.2f ms on all%s)", step_ms, shared_step_ms,
                   same_bits ? "" : " with other bits");
  }
  return words;
}

CoreUse share_cores(Job& job) {
  CoreUse use;
  use.workers = job.learners->count_max();
  const std::size_t cores = use.workers;
  if (cores == 1 || job.method().needs == "loss") return use;
  const Step alone = step_on(job, 1);
  use.step_ms = alone.ms;
  double steps = 0;
  for (const data::Share& share : job.shares) {
    steps += static_cast<double>(learn::steps_of(job.plan.train, share.train.size()));
  }
  steps *= static_cast<double>(job.plan.per_round * job.plan.rounds) /
           static_cast<double>(job.plan.clients);
  if (steps * alone.ms * 1e-3 < kWorthMeasuringS) return use;
  const Step together = step_on(job, cores);
  use.shared_step_ms = together.ms;
  use.same_bits = same(alone.gradient, together.gradient);
  const auto busy =
      static_cast<double>(std::min(static_cast<std::int64_t>(cores), job.plan.per_round));
  if (use.same_bits && alone.ms > kFaster * busy * together.ms) {
    use.workers = 1;
    use.threads_each = cores;
    job.learners->share_cores(1, cores);
  }
  return use;
}

}  // namespace fedctl::run
