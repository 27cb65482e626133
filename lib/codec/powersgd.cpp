// powersgd: a matrix of n rows and m columns as the product P Q^T of rank r (Vogels, Karimireddy,
// Jaggi, NeurIPS 2019, arXiv 1905.13727, algorithm 1). Matrices for which 2 r (n + m) > n m, and
// what is no matrix, are handed on as they are.
//
//   Q <- m x r normally distributed values; `iterations` times: P <- orthonormal columns of M Q,
//   Q <- M^T P
//
// Bytes: for every block in order P and then Q, each by rows, or the block; as the codec behind
// this one codes them, in blocks of their own, float32 if there is none. They have a fixed size.
// Error: |M - P P^T M|^2, never above |M|^2; with 3 iterations near that of the r largest singular
// values. Linear neither in P nor in Q, since both travel.
//
// Deviation from the paper: one message in place of two (there P is averaged before Q is computed,
// so that it adds up under all-reduce); no warm start but more iterations, so that nothing has to
// be remembered between rounds and a client that is rarely asked loses nothing by it.

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

using Matrix = std::vector<double>;  // by rows

// What one block is handed on as.
struct Part {
  std::size_t count, rows = 0, columns = 0;  // rows 0: as it is
};

// Gram-Schmidt on the columns of an n x r matrix, twice for each, since once is not exact; a column
// that depends on those before it becomes 0.
void orthonormalise(Matrix& matrix, std::size_t rows, std::size_t rank) {
  const auto dot = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t i = 0; i < rows; ++i) sum += matrix[i * rank + a] * matrix[i * rank + b];
    return sum;
  };
  for (std::size_t k = 0; k < rank; ++k) {
    const double before = dot(k, k);
    for (std::size_t pass = 0; pass < 2; ++pass) {
      for (std::size_t j = 0; j < k; ++j) {
        const double along = dot(k, j);
        for (std::size_t i = 0; i < rows; ++i) matrix[i * rank + k] -= along * matrix[i * rank + j];
      }
    }
    const double squared = dot(k, k);
    const double factor = squared > before * 1e-20 && squared > 0 ? 1 / std::sqrt(squared) : 0;
    for (std::size_t i = 0; i < rows; ++i) matrix[i * rank + k] *= factor;
  }
}

class PowerSgd final : public Codec {
 public:
  PowerSgd(std::vector<Part> parts, std::size_t rank, std::size_t iterations, std::size_t count,
           std::size_t handed_on, std::unique_ptr<Codec> next)
      : parts_(std::move(parts)),
        rank_(rank),
        iterations_(iterations),
        count_(count),
        handed_on_(handed_on),
        next_(std::move(next)) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    return next_->max_encoded_bytes(handed_on_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    const float largest = detail::largest_magnitude(values);
    std::vector<float> factors;
    factors.reserve(handed_on_);
    Rng random(rng.next_u64());
    std::size_t first = 0;
    for (const Part& part : parts_) {
      const auto block = values.subspan(first, part.count);
      if (part.rows == 0) {
        factors.insert(factors.end(), block.begin(), block.end());
      } else {
        factorise(block, part, largest, random, factors);
      }
      first += part.count;
    }
    return next_->encode(factors, rng);
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    std::vector<float> factors(handed_on_);
    next_->decode(encoded, factors);
    constexpr double kMax = std::numeric_limits<float>::max();
    const float* at = factors.data();
    float* to = out.data();
    for (const Part& part : parts_) {
      if (part.rows == 0) {
        std::copy_n(at, part.count, to);
        at += part.count;
        to += part.count;
        continue;
      }
      const float* const p = at;
      const float* const q = p + part.rows * rank_;
      for (std::size_t i = 0; i < part.rows; ++i) {
        for (std::size_t j = 0; j < part.columns; ++j) {
          double sum = 0;
          for (std::size_t k = 0; k < rank_; ++k) {
            sum += static_cast<double>(p[i * rank_ + k]) * q[j * rank_ + k];
          }
          *to++ = static_cast<float>(std::clamp(sum, -kMax, kMax));
        }
      }
      at = q + part.columns * rank_;
    }
  }

 private:
  // Appends P and Q. Q's values are at most |M|; beyond the largest float they become that.
  void factorise(std::span<const float> block, const Part& part, float largest, Rng& random,
                 std::vector<float>& factors) const {
    const std::size_t rows = part.rows, columns = part.columns;
    // In units of the largest magnitude, so that no square overflows or vanishes.
    const double unit = largest > 0 ? largest : 1;
    Matrix p(rows * rank_), q(columns * rank_);
    for (double& value : q) value = random.normal();
    for (std::size_t iteration = 0; iteration < iterations_; ++iteration) {
      std::fill(p.begin(), p.end(), 0.0);
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < columns; ++j) {
          const double value = block[i * columns + j] / unit;
          for (std::size_t k = 0; k < rank_; ++k) p[i * rank_ + k] += value * q[j * rank_ + k];
        }
      }
      orthonormalise(p, rows, rank_);
      std::fill(q.begin(), q.end(), 0.0);
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < columns; ++j) {
          const double value = block[i * columns + j] / unit;
          for (std::size_t k = 0; k < rank_; ++k) q[j * rank_ + k] += value * p[i * rank_ + k];
        }
      }
    }
    constexpr double kMax = std::numeric_limits<float>::max();
    for (const double value : p) factors.push_back(static_cast<float>(value));
    for (const double value : q) {
      factors.push_back(static_cast<float>(std::clamp(value * unit, -kMax, kMax)));
    }
  }

  std::vector<Part> parts_;
  std::size_t rank_, iterations_, count_, handed_on_;
  std::unique_ptr<Codec> next_;
};

struct PowerSgdOptions : config::Options {
  std::int64_t rank = 4;
  std::int64_t iterations = 3;
  void fields(config::Fields& fields) override {
    fields.integer("rank", rank, {.min = 1, .max = 256}, "columns of the factors");
    fields.integer("iterations", iterations, {.min = 1, .max = 20}, "of the power method");
  }
};

std::unique_ptr<Codec> make_before(const config::Options& options, Blocks blocks,
                                   const MakeNext& next) {
  const auto& own = dynamic_cast<const PowerSgdOptions&>(options);
  const auto rank = static_cast<std::size_t>(own.rank);
  std::vector<Part> parts;
  std::vector<BlockSize> handed_on;
  for (const BlockSize& block : blocks) {
    const bool matrix = block.columns > 0 && block.count % block.columns == 0;
    const std::size_t rows = matrix ? block.count / block.columns : 0;
    if (rows == 0 || 2 * rank * (rows + block.columns) > block.count) {
      parts.push_back({block.count});
      handed_on.push_back(block);
    } else {
      parts.push_back({block.count, rows, block.columns});
      handed_on.emplace_back(rows * rank, rank);
      handed_on.emplace_back(block.columns * rank, rank);
    }
  }
  const std::size_t total = detail::value_count(handed_on);
  return std::make_unique<PowerSgd>(std::move(parts), rank,
                                    static_cast<std::size_t>(own.iterations),
                                    detail::value_count(blocks), total, next(handed_on));
}

}  // namespace

CodecEntry powersgd() {
  return {.kind = {.name = "powersgd",
                   .summary = "matrices as products of low rank",
                   .paper = "Vogels, Karimireddy, Jaggi, NeurIPS 2019 (arXiv 1905.13727)",
                   .make_options = [] { return std::make_unique<PowerSgdOptions>(); }},
          .stage = Stage::sparsifier,
          .promises = {.contractive = true},
          .make_before = make_before};
}

}  // namespace fedctl::codec
