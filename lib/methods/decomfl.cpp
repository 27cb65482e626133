// DeComFL: Li, Ying, Liu, Dong, Yang, "Achieving dimension-free communication in federated learning
// via zeroth-order optimization", ICLR 2025, arXiv 2405.15861; with `precondition` HiSo: the same
// group, "Converge faster, talk less", ICLR 2026, arXiv 2506.02370. Messages: detail/replay.hpp.
//
// Payload a round and client: 4 tau P up, 4 tau P for every round missed down; with scalars: byte a
// quarter. P = 5, tau = 1: 20 B each way.
//
// Deviation from the paper: keys are hashed from (round, step, direction), where the official
// code's seeds collide.
#include "methods/detail/decomfl.hpp"

#include <algorithm>

#include "math/vectors.hpp"

namespace fedctl::methods {
namespace {

// Beyond these a direction over its root is no number of use.
constexpr float kCurvatureMin = 1e-30F, kCurvatureMax = 1e30F;

}  // namespace

void DecomflOptions::fields(config::Fields& fields) {
  fields.integer("directions", directions, {1, 65536}, "directions P of a step");
  fields.real("probe", probe, {.above = 0}, "distance of the losses of a slope; 1e-2 for LoRA");
  fields.text("form", form, {.one_of = {"forward", "central"}},
              "slopes from P + 1 losses, or from 2 P, without the bias of the curvature");
  ScalarCode::field(fields, scalars);
  fields.boolean("precondition", precondition, "scale directions by a curvature of slopes (HiSo)");
  fields.real("smoothing", smoothing, {.min = 0, .below = 1}, "of the curvature, a round");
  fields.boolean("ablate", ablate, "precondition: leave the curvature at 1");
}

DecomflRule::DecomflRule(const DecomflOptions& options, const JobPlan& job)
    : Rule(job, options.scalars),
      options_(options),
      width_(static_cast<std::size_t>(options.directions)),
      lr_(learn::learning_rate(job.train.optimizer)) {}

std::vector<float> DecomflRule::first_curvature() const {
  return options_.precondition ? std::vector<float>(plan.layout.size(), 1.0F)
                               : std::vector<float>();
}

double DecomflRule::norm(ByteView answer, std::int64_t steps) const {
  return math::norm(slopes_in(answer, steps));
}

void DecomflRule::move(std::int64_t round, std::size_t step, std::span<const float> slopes,
                       std::span<const float> curvature, std::span<float> weights) const {
  for (std::size_t p = 0; p < width_; ++p) {
    directions.add(key(round, step, p), -lr_ / static_cast<double>(width_) * slopes[p], weights,
                   curvature);
  }
}

Measured DecomflRule::measure(const Replica& replica, std::int64_t steps, learn::Learner& learner,
                              ClientContext& ctx) const {
  const std::int64_t round = replica.round + 1;
  Batches batches(ctx.data, ctx.train, static_cast<std::size_t>(plan.train.batch_size),
                  ctx.rng.stream("order", round));
  Probe probe(learner, directions, options_.probe, replica.curvature);
  Measured measured;
  measured.steps = steps;
  for (std::size_t step = 0; step < static_cast<std::size_t>(steps); ++step) {
    const data::Batch batch = batches.next();
    const bool forward = options_.form == "forward";
    const double here = forward ? learner.loss(batch) : 0;
    std::vector<float> slopes(width_);
    double loss = 0;
    for (std::size_t p = 0; p < width_; ++p) {
      const Probe::Slope found = forward ? probe.forward(key(round, step, p), batch, here)
                                         : probe.central(key(round, step, p), batch);
      slopes[p] = static_cast<float>(found.slope);  // 0 if a loss was not finite
      loss += found.loss / static_cast<double>(width_);
    }
    // The step is made with the numbers that are sent.
    const Bytes codes = code.encode(slopes, ctx.rng.stream("code", round, step));
    slopes = slopes_in(codes, 1);
    move(round, step, slopes, replica.curvature, learner.weights());
    measured.bytes.insert(measured.bytes.end(), codes.begin(), codes.end());
    measured.loss += loss / static_cast<double>(steps);
  }
  return measured;
}

// Each step over the clients that took it.
Bytes DecomflRule::entry(const Replica& replica, const Answers& answers,
                         aggregate::Aggregator& aggregator) const {
  std::vector<std::pair<PeerId, std::vector<float>>> slopes;
  for (const auto& [peer, answer] : answers) {
    const std::size_t step_bytes = width_ * code.width();
    slopes.emplace_back(peer,
                        slopes_in(answer, static_cast<std::int64_t>(answer.size() / step_bytes)));
  }
  std::vector<float> means;
  for (std::size_t at = 0;; at += width_) {
    std::vector<aggregate::Contribution> contributions;
    for (const auto& [peer, own] : slopes) {
      if (at < own.size()) contributions.push_back({peer, 1, std::span(own).subspan(at, width_)});
    }
    if (contributions.empty()) break;
    means.resize(at + width_);
    aggregator.combine(contributions, std::span(means).subspan(at));
  }
  means.resize(static_cast<std::size_t>(plan.train.steps) * width_);
  return code.encode(means, plan.common.stream("code", replica.round + 1));
}

std::size_t DecomflRule::entry_bytes(ByteView log) const {
  const std::size_t bytes = static_cast<std::size_t>(plan.train.steps) * width_ * code.width();
  if (bytes > log.size()) throw WireError("the log ends in an entry");
  return bytes;
}

void DecomflRule::advance(Replica& replica, ByteView entry) const {
  const auto steps = static_cast<std::size_t>(plan.train.steps);
  const std::vector<float> means = slopes_in(entry, plan.train.steps);
  const std::int64_t round = ++replica.round;
  const std::vector<float> curvature = replica.curvature;
  for (std::size_t step = 0; step < steps; ++step) {
    move(round, step, std::span(means).subspan(step * width_, width_), curvature, replica.weights);
  }
  if (curvature.empty() || options_.ablate) return;
  // HiSo, batch form, last local step: K <- nu K + (1 - nu) (1 / P sum_p G_p z_p)^2.
  std::vector<float> gradient(directions.size());
  for (std::size_t p = 0; p < width_; ++p) {
    const std::size_t at = (steps - 1) * width_ + p;
    directions.add(key(round, steps - 1, p), double{means[at]} / static_cast<double>(width_),
                   gradient, curvature);
  }
  const double keep = options_.smoothing;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double next = keep * replica.curvature[i] + (1 - keep) * gradient[i] * gradient[i];
    replica.curvature[i] = std::clamp(static_cast<float>(next), kCurvatureMin, kCurvatureMax);
  }
}

MethodEntry decomfl();
MethodEntry decomfl() {
  return {.kind = {"decomfl", "fresh random directions, alike for all clients; only slopes travel",
                   "Li et al., ICLR 2025, arXiv 2405.15861",
                   [] { return std::make_unique<DecomflOptions>(); }},
          .needs = "loss",
          .payload = "scalars",
          .rung = 2,
          .alike = false,
          .fixed_steps = true,
          .own_code = true,
          .make_server = replay_server<DecomflRule, DecomflOptions>,
          .make_client = replay_client<DecomflRule, DecomflOptions>};
}

}  // namespace fedctl::methods
