#include <catch2/catch.hpp>
#include <cmath>

#include "support/chain_text.hpp"

using namespace fedctl;

namespace {

// rows x columns of this rank, the j-th part with half the size of the one before it.
std::vector<float> matrix_of_rank(std::size_t rank, std::size_t rows, std::size_t columns) {
  Rng rng(1);
  std::vector<float> values(rows * columns);
  for (std::size_t k = 0; k < rank; ++k) {
    std::vector<double> left(rows), right(columns);
    for (double& value : left) value = rng.normal();
    for (double& value : right) value = rng.normal() * std::pow(0.5, static_cast<double>(k));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] += static_cast<float>(left[i / columns] * right[i % columns]);
    }
  }
  return values;
}

struct Outcome {
  double lost = 0;  // share of the squared norm
  std::size_t bytes = 0;
};

Outcome pass(const std::string& chain, const std::vector<codec::BlockSize>& blocks,
             const std::vector<float>& values) {
  const auto codec = codec::make_chain(test::chain_of(chain), "none", blocks);
  Rng rng(2);
  const Bytes encoded = codec->encode(values, rng);
  std::vector<float> out(values.size());
  codec->decode(encoded, out);
  CHECK(encoded.size() <= codec->max_encoded_bytes(values.size()));
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    error += std::pow(out[i] - values[i], 2);
    norm += std::pow(values[i], 2);
  }
  return {norm > 0 ? error / norm : error, encoded.size()};
}

}  // namespace

TEST_CASE("powersgd is exact up to its rank and near the best above it", "[codec][powersgd]") {
  const std::vector<codec::BlockSize> blocks = {{60 * 40, 40}};
  for (const std::size_t rank : {1, 2, 3}) {
    const Outcome exact = pass("powersgd:rank=3", blocks, matrix_of_rank(rank, 60, 40));
    CHECK(exact.lost < 1e-12);
    CHECK(exact.bytes == 4 * 3 * (60 + 40));
  }
  // What is left of parts 1, 1/4, 1/16, ... of the squared norm after the first two is about 1/16.
  const std::vector<float> values = matrix_of_rank(10, 60, 40);
  const double converged = pass("powersgd:rank=2:iterations=20", blocks, values).lost;
  CHECK(converged > 0.02);
  CHECK(converged < 0.1);
  CHECK(pass("powersgd:rank=2", blocks, values).lost < 1.05 * converged);
  CHECK(pass("powersgd:rank=2:iterations=1", blocks, values).lost > converged);
}

TEST_CASE("powersgd hands on what is no matrix, or too small for its rank", "[codec][powersgd]") {
  // 12 x 8 has 96 values, and 2 * 3 * 20 = 120.
  const std::vector<codec::BlockSize> blocks = {7, {12 * 8, 8}, {60 * 40, 40}};
  std::vector<float> values(7 + 96, 2.5F);
  const std::vector<float> matrix = matrix_of_rank(2, 60, 40);
  values.insert(values.end(), matrix.begin(), matrix.end());
  const Outcome outcome = pass("powersgd:rank=3", blocks, values);
  CHECK(outcome.bytes == 4 * (7 + 96 + 3 * (60 + 40)));
  CHECK(outcome.lost < 1e-12);
  // The factors are blocks of their own: six scales, and their values in 8 bits.
  const Outcome quantized = pass("powersgd:rank=3+quantize:bits=8", blocks, values);
  CHECK(quantized.bytes == 4 * 4 + 7 + 96 + 3 * (60 + 40));
  CHECK(quantized.lost < 1e-3);
}

TEST_CASE("powersgd: zeros, extremes, columns that depend on each other", "[codec][powersgd]") {
  const std::vector<codec::BlockSize> blocks = {{40 * 40, 40}};
  CHECK(pass("powersgd", blocks, std::vector<float>(1600)).lost == 0);
  CHECK(pass("powersgd", blocks, std::vector<float>(1600, 3e36F)).lost < 1e-12);
  CHECK(pass("powersgd", blocks, std::vector<float>(1600, 1e-40F)).lost < 1e-3);
  std::vector<float> spike(1600);
  spike[77] = -5;
  CHECK(pass("powersgd", blocks, spike).lost < 1e-12);
}

TEST_CASE("powersgd refuses other lengths", "[codec][powersgd]") {
  const std::vector<codec::BlockSize> blocks = {{40 * 40, 40}};
  const auto codec = codec::make_chain(test::chain_of("powersgd"), "none", blocks);
  std::vector<float> out(1600);
  CHECK_THROWS_AS(codec->decode(Bytes(4 * 4 * 80 - 1), out), WireError);
  CHECK_THROWS_AS(codec->decode(Bytes(4 * 4 * 80 + 1), out), WireError);
}
