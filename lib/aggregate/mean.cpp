// mean: sum of weight * values over sum of weights (McMahan, Moore, Ramage, Hampson, Aguera y
// Arcas, "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017,
// algorithm 1: weights are example counts). Linear. One client that lies moves it anywhere.
//
// The sums are in double and in peer order, so the result is the same wherever it is computed and
// equal inputs come out unchanged. Cost: O(clients * count), 8 KiB of scratch; one by one 8 bytes a
// value.

#include <algorithm>
#include <array>

#include "aggregate/aggregator.hpp"
#include "base/assert.hpp"
#include "base/clones.hpp"

namespace fedctl::aggregate {
namespace {

FEDCTL_CLONES void add_scaled(double weight, const float* values, std::size_t count, double* sums) {
  for (std::size_t i = 0; i < count; ++i) sums[i] += weight * values[i];
}

// In pieces: one block of twice the model's size finds no place between others, and would be new
// memory in every round of a busy server.
class RunningMean final : public Aggregator::Running {
 public:
  explicit RunningMean(std::size_t count) : count_(count) {
    for (std::size_t first = 0; first < count; first += kPiece) {
      sums_.emplace_back(std::min(kPiece, count - first));
    }
  }
  void add(const Contribution& next) override {
    FEDCTL_ASSERT(next.weight > 0 && next.values.size() == count_);
    total_ += next.weight;
    const float* values = next.values.data();
    for (std::vector<double>& piece : sums_) {
      add_scaled(next.weight, values, piece.size(), piece.data());
      values += piece.size();
    }
  }
  void finish(std::span<float> out) override {
    FEDCTL_ASSERT(total_ > 0 && out.size() == count_);
    auto to = out.begin();
    for (const std::vector<double>& piece : sums_) {
      for (const double sum : piece) *to++ = static_cast<float>(sum / total_);
    }
  }

 private:
  static constexpr std::size_t kPiece = 1 << 16;
  std::size_t count_;
  std::vector<std::vector<double>> sums_;
  double total_ = 0;
};

class Mean final : public Aggregator {
 public:
  bool by_coordinate() const override { return true; }
  std::unique_ptr<Running> start(std::size_t count) override {
    return std::make_unique<RunningMean>(count);
  }
  void combine(std::span<const Contribution> in, std::span<float> out) override {
    FEDCTL_ASSERT(!in.empty());
    double total = 0;
    for (const Contribution& from : in) {
      FEDCTL_ASSERT(from.weight > 0 && from.values.size() == out.size());
      total += from.weight;
    }
    // Piece by piece, so that the sums stay in the first-level cache.
    std::array<double, 1024> sums;
    for (std::size_t first = 0; first < out.size(); first += sums.size()) {
      const auto piece = out.subspan(first, std::min(sums.size(), out.size() - first));
      sums.fill(0);
      for (const Contribution& from : in) {
        add_scaled(from.weight, from.values.data() + first, piece.size(), sums.data());
      }
      for (std::size_t i = 0; i < piece.size(); ++i) piece[i] = static_cast<float>(sums[i] / total);
    }
  }
};

struct MeanOptions : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

AggregatorEntry mean() {
  return {.kind = {.name = "mean",
                   .summary = "mean weighted by the clients' example counts",
                   .paper = "McMahan et al., AISTATS 2017 (arXiv 1602.05629)",
                   .make_options = [] { return std::make_unique<MeanOptions>(); }},
          .make = [](const config::Options&) { return std::make_unique<Mean>(); }};
}

}  // namespace fedctl::aggregate
