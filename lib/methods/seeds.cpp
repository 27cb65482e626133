#include "methods/detail/seeds.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "math/normals.hpp"

namespace fedctl::methods {
namespace {

constexpr std::size_t kChunk = 16 * math::kNormalsBlock;

}  // namespace

void Directions::add(std::uint64_t key, double factor, std::span<float> weights,
                     std::span<const float> curvature) const {
  const auto by = static_cast<float>(factor);
  std::array<float, kChunk> z;
  if (positions_) {
    for (std::size_t first = 0; first < positions_->size(); first += kChunk) {
      const auto chunk =
          std::span(*positions_).subspan(first, std::min(kChunk, positions_->size() - first));
      math::gather_normals(key, chunk, std::span(z).first(chunk.size()));
      for (std::size_t i = 0; i < chunk.size(); ++i) weights[chunk[i]] += by * z[i];
    }
    return;
  }
  for (std::size_t first = 0; first < size_; first += kChunk) {
    const std::size_t count = std::min(kChunk, size_ - first);
    math::fill_normals(key, first, std::span(z).first(count));
    float* const to = weights.data() + first;
    if (curvature.empty()) {
      for (std::size_t i = 0; i < count; ++i) to[i] += by * z[i];
    } else {
      for (std::size_t i = 0; i < count; ++i)
        to[i] += by * (z[i] / std::sqrt(curvature[first + i]));
    }
  }
}

void Probe::keep() {
  if (!directions_.masked()) return;
  kept_.clear();
  for (const std::size_t position : directions_.positions()) {
    kept_.push_back(learner_.weights()[position]);
  }
}

void Probe::restore(std::uint64_t key, double from) {
  if (!directions_.masked()) {
    directions_.add(key, -from, learner_.weights(), curvature_);
    return;
  }
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    learner_.weights()[directions_.positions()[i]] = kept_[i];
  }
}

// The loss at w + `to` z, coming from w + `from` z.
double Probe::loss_at(std::uint64_t key, double from, double to, const data::Batch& batch) {
  directions_.add(key, to - from, learner_.weights(), curvature_);
  return learner_.loss(batch);
}

Probe::Slope Probe::central(std::uint64_t key, const data::Batch& batch) {
  keep();
  const double above = loss_at(key, 0, distance_, batch);
  const double below = loss_at(key, distance_, -distance_, batch);
  restore(key, -distance_);
  if (!std::isfinite(above) || !std::isfinite(below)) return {.finite = false};
  return {(above - below) / (2 * distance_), (above + below) / 2};
}

Probe::Slope Probe::forward(std::uint64_t key, const data::Batch& batch, double here) {
  keep();
  const double above = loss_at(key, 0, distance_, batch);
  restore(key, distance_);
  if (!std::isfinite(above) || !std::isfinite(here)) return {.finite = false};
  return {(above - here) / distance_, here};
}

data::Batch Batches::next() {
  if (at_ == order_.size()) {
    order_ = learn::epoch_batches(indices_, batch_size_, rng_.stream("epoch", epoch_++));
    at_ = 0;
  }
  return data_.gather(order_[at_++]);
}

}  // namespace fedctl::methods
