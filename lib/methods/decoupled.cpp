#include "methods/detail/decoupled.hpp"

#include <algorithm>
#include <cmath>

#include "math/vectors.hpp"

namespace fedctl::methods {
namespace {

constexpr double kSmoothing = 0.25;  // weight of the newest time
constexpr double kCancelled = 1e-6;  // a mean direction shorter than this is rounding

void smooth(std::optional<double>& average, double seen) {
  average = average ? *average + kSmoothing * (seen - *average) : seen;
}

std::vector<float> scaled(std::span<const float> values, double factor) {
  std::vector<float> out(values.size());
  std::ranges::transform(values, out.begin(),
                         [&](float value) { return static_cast<float>(factor * value); });
  return out;
}

// One tensor; true: left to the mean.
bool combine_tensor(std::span<const aggregate::Contribution> deltas, bool switches,
                    aggregate::Aggregator& aggregator, std::span<float> out) {
  double weights = 0, radius = 0;
  std::vector<std::vector<float>> directions;
  std::vector<aggregate::Contribution> units;
  for (const auto& [from, weight, values] : deltas) {
    const double norm = math::norm(values);
    weights += weight;
    radius += weight * norm;
    directions.push_back(scaled(values, norm > 0 ? 1 / norm : 0));
    units.push_back({from, weight, directions.back()});
  }
  radius /= weights;
  aggregator.combine(deltas, out);
  const double least = 0.5 / std::sqrt(static_cast<double>(deltas.size()));
  if (switches && math::norm(out) < least * radius) return true;
  std::vector<float> direction(out.size());
  aggregator.combine(units, direction);
  const double length = math::norm(direction);
  if (length < kCancelled) return true;
  std::ranges::copy(scaled(direction, radius / length), out.begin());
  return false;
}

}  // namespace

void GraceOptions::fields(config::Fields& fields) {
  fields.real("gamma", gamma, {.min = 0, .max = 1}, "share of the clients' spare time waited for");
  fields.real("tau", tau, {.min = 1, .max = 1000}, "client's answers that a merge may take");
  fields.real("grace_max_s", cap_s, {.min = 0, .max = limits::kDeadlineMaxS},
              "longest wait behind the quorum, seconds");
}

double Grace::seconds() const {
  if (never()) return 0;
  if (!step_) return options_.cap_s;
  const double spare = options_.tau * *step_ - quorum_.value_or(0);
  return std::clamp(options_.gamma * spare, 0.0, options_.cap_s);
}

void Grace::saw_step(double seconds) { smooth(step_, seconds); }
void Grace::saw_quorum(double seconds) { smooth(quorum_, seconds); }

void Grace::save(Message& state) const {
  if (step_) state.scalars.emplace("xi_step", *step_);
  if (quorum_) state.scalars.emplace("xi_quorum", *quorum_);
}

void Grace::load(const Message& state) {
  const wire::Expect expect(state, "state");
  if (state.scalars.contains("xi_step")) step_ = expect.real("xi_step");
  if (state.scalars.contains("xi_quorum")) quorum_ = expect.real("xi_quorum");
}

double token_weight(std::int64_t tokens, std::int64_t steps) {
  if (steps == 0) return 0;
  const auto count = static_cast<double>(tokens);
  return count * (count / static_cast<double>(steps));
}

std::int64_t combine_radially(std::span<const aggregate::Contribution> deltas,
                              std::span<const std::size_t> bounds, bool switches,
                              aggregate::Aggregator& aggregator, std::span<float> out) {
  std::int64_t means = 0;
  for (std::size_t tensor = 0; tensor + 1 < bounds.size(); ++tensor) {
    const std::size_t first = bounds[tensor], count = bounds[tensor + 1] - first;
    std::vector<aggregate::Contribution> parts;
    for (const auto& [from, weight, values] : deltas) {
      parts.push_back({from, weight, values.subspan(first, count)});
    }
    if (combine_tensor(parts, switches, aggregator, out.subspan(first, count))) ++means;
  }
  return means;
}

}  // namespace fedctl::methods
