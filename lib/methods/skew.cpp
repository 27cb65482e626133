#include "methods/detail/skew.hpp"

#include <algorithm>
#include <numeric>

#include "methods/detail/states.hpp"

namespace fedctl::methods {

void SkewOptions::fields(config::Fields& fields) {
  fields.integer("vp_calibration", calibration, {10, 1'000'000}, "steps that vp looks at");
  fields.real("vp_drop", drop, {.above = 0},
              "first fifth over second half, mean |GradIP|, of a skewed client at least");
  fields.real("vp_sigma", sigma, {.above = 0},
              "what counts as quiet, over the mean of the first fifth");
  fields.real("vp_quiet", quiet, {.above = 0, .max = 1},
              "share of quiet steps of a skewed client in the second half, at least");
}

SkewVerdict verdict_of(std::span<const float> history, const SkewOptions& options) {
  const auto mean = [](std::span<const float> part) {
    return std::accumulate(part.begin(), part.end(), 0.0) / static_cast<double>(part.size());
  };
  const std::span<const float> later = history.subspan(history.size() / 2);
  const double first = mean(history.first(history.size() / 5));
  const auto quiet = static_cast<double>(
      std::ranges::count_if(later, [&](float value) { return value < options.sigma * first; }));
  SkewVerdict verdict;
  verdict.drop = first / std::max(mean(later), 1e-30);
  verdict.quiet = quiet / static_cast<double>(later.size());
  verdict.skewed = verdict.drop >= options.drop && verdict.quiet >= options.quiet;
  return verdict;
}

std::optional<SkewVerdict> SkewWatch::add(PeerId peer, std::span<const float> magnitudes) {
  if (verdicts_.contains(peer)) return std::nullopt;
  std::vector<float>& history = history_[peer];
  history.insert(history.end(), magnitudes.begin(), magnitudes.end());
  if (history.size() < static_cast<std::size_t>(options_.calibration)) return std::nullopt;
  const SkewVerdict verdict = verdict_of(history, options_);
  verdicts_[peer] = verdict.skewed ? 1 : 0;
  history_.erase(peer);
  return verdict;
}

bool SkewWatch::skewed(PeerId peer) const {
  const auto found = verdicts_.find(peer);
  return found != verdicts_.end() && found->second == 1;
}

void SkewWatch::save(Message& state) const {
  std::map<PeerId, std::int64_t> lengths;
  std::vector<float> values;
  for (const auto& [peer, history] : history_) {
    lengths[peer] = static_cast<std::int64_t>(history.size());
    values.insert(values.end(), history.begin(), history.end());
  }
  state.tensors.emplace("verdicts", by_peer(verdicts_));
  state.tensors.emplace("history", Tensor::of(values, {}));
  state.tensors.emplace("history_of", by_peer(lengths));
}

void SkewWatch::load(const Message& state) {
  verdicts_ = by_peer_in(state, "verdicts");
  const std::map<PeerId, std::int64_t> lengths = by_peer_in(state, "history_of");
  std::size_t total = 0;
  for (const auto& [peer, length] : lengths) {
    if (length < 0 || length > options_.calibration) {
      throw WireError("\"state\": a history of " + std::to_string(length));
    }
    total += static_cast<std::size_t>(length);
  }
  const std::vector<float> values = floats_in(state, "history", total);
  history_.clear();
  auto at = values.begin();
  for (const auto& [peer, length] : lengths) {
    history_[peer].assign(at, at + length);
    at += length;
  }
}

}  // namespace fedctl::methods
