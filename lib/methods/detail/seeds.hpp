// Pieces of the methods that move along random directions known by a key, and send numbers in place
// of vectors: fedkseed, just_one_byte, decomfl, meerkat.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "data/dataset.hpp"
#include "learn/train.hpp"

namespace fedctl::methods {

// z of a key: standard normals by index (math/normals.hpp), the same for every party; of the d
// trainable weights all, or those of a mask, or each divided by the root of a curvature.
class Directions {
 public:
  explicit Directions(std::size_t size) : size_(size) {}
  // Ascending, below size(): z is 0 elsewhere.
  void mask(std::vector<std::size_t> positions) { positions_ = std::move(positions); }
  bool masked() const { return positions_.has_value(); }
  std::span<const std::size_t> positions() const { return *positions_; }
  std::size_t size() const { return size_; }

  // weights += factor z. `curvature`, if not empty: z_i / sqrt(curvature_i) in place of z_i; not of
  // a mask.
  void add(std::uint64_t key, double factor, std::span<float> weights,
           std::span<const float> curvature = {}) const;

 private:
  std::size_t size_;
  std::optional<std::vector<std::size_t>> positions_;
};

// Measures losses beside a learner's weights, which are moved there and back: exactly where a mask
// leaves few of them to keep, else up to the rounding of two sums (no second copy of the weights).
class Probe {
 public:
  // `curvature` as in Directions::add; all outlive the probe.
  Probe(learn::Learner& learner, const Directions& directions, double distance,
        std::span<const float> curvature = {})
      : learner_(learner), directions_(directions), distance_(distance), curvature_(curvature) {}

  struct Slope {
    double slope = 0, loss = 0;  // along z; the mean of the two losses
    bool finite = true;          // else slope is 0
  };
  // (L(w + e z) - L(w - e z)) / 2 e, e = distance.
  Slope central(std::uint64_t key, const data::Batch& batch);
  // (L(w + e z) - here) / e; `here` is L(w) on the same batch.
  Slope forward(std::uint64_t key, const data::Batch& batch, double here);

 private:
  double loss_at(std::uint64_t key, double from, double to, const data::Batch& batch);
  void keep();
  void restore(std::uint64_t key, double from);

  learn::Learner& learner_;
  const Directions& directions_;
  double distance_;
  std::span<const float> curvature_;
  std::vector<float> kept_;  // where there is a mask
};

// One batch after the other, epoch after epoch, as learn::train() takes them.
class Batches {
 public:
  Batches(const data::Dataset& data, std::span<const std::size_t> indices, std::size_t batch_size,
          const Rng& rng)
      : data_(data), indices_(indices), batch_size_(batch_size), rng_(rng) {}
  data::Batch next();

 private:
  const data::Dataset& data_;
  std::span<const std::size_t> indices_;
  std::size_t batch_size_;
  Rng rng_;
  std::int64_t epoch_ = 0;
  std::size_t at_ = 0;
  std::vector<std::vector<std::size_t>> order_;
};

}  // namespace fedctl::methods
