#include "codec/detail/hadamard.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/rng.hpp"

using namespace fedctl;
using codec::detail::Path;
using codec::detail::Rotation;

namespace {

std::vector<float> normal_values(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

double square_norm(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

// Equal bit for bit: -0 is not 0.
bool same_bytes(const std::vector<float>& one, const std::vector<float>& other) {
  return one.size() == other.size() &&
         std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("the Hadamard transform is the matrix product", "[codec][hadamard]") {
  for (const std::size_t count : {1U, 2U, 8U, 64U, 128U, 1024U}) {
    const std::vector<float> values = normal_values(count, 1);
    std::vector<float> transformed = values;
    codec::detail::hadamard(transformed);
    for (std::size_t row = 0; row < count; ++row) {
      double sum = 0;  // H(row, column) = (-1)^(ones in row & column) / sqrt(count)
      for (std::size_t column = 0; column < count; ++column) {
        sum += std::popcount(row & column) % 2 == 0 ? values[column] : -values[column];
      }
      REQUIRE(transformed[row] == Approx(sum / std::sqrt(static_cast<double>(count))).margin(1e-5));
    }
  }
}

TEST_CASE("the AVX2 transform writes the bytes of the scalar one", "[codec][hadamard]") {
  for (std::size_t count = 1; count <= std::size_t{1} << 18; count *= 2) {
    INFO(count);
    std::vector<float> fast = normal_values(count, 2);
    fast[count / 2] = -0.0F;
    std::vector<float> scalar = fast;
    codec::detail::hadamard(fast);
    codec::detail::hadamard(scalar, Path::scalar);
    CHECK(same_bytes(fast, scalar));
  }
  for (const std::size_t count : {255U, 256U, 257U, 8191U, 8192U, 30'000U}) {
    for (const unsigned rounds : {1U, 2U}) {
      const Rotation rotation(count, rounds);
      std::vector<float> fast = normal_values(count, 3);
      std::vector<float> scalar = fast;
      rotation.rotate(fast, 4);
      rotation.rotate(scalar, 4, Path::scalar);
      CHECK(same_bytes(fast, scalar));
      rotation.unrotate(fast, 4);
      rotation.unrotate(scalar, 4, Path::scalar);
      CHECK(same_bytes(fast, scalar));
    }
  }
}

TEST_CASE("signs are the bits of SplitMix64", "[codec][hadamard][golden]") {
  // The published generator from state 1234567 starts 6457827717110365317, 3203168211198807973.
  std::vector<float> ones(64, 1.0F);
  for (const auto& [word, bits] :
       {std::pair{0U, 6457827717110365317U}, std::pair{1U, 3203168211198807973U}}) {
    codec::detail::flip_signs(ones, 1234567, word);
    for (std::size_t i = 0; i < 64; ++i) CHECK(std::signbit(ones[i]) == ((bits >> i & 1) != 0));
    codec::detail::flip_signs(ones, 1234567, word, Path::scalar);
    CHECK(ones == std::vector<float>(64, 1.0F));
  }
}

TEST_CASE("blocks and signs are those of docs/codecs.md", "[codec][hadamard][golden]") {
  // Values i % 7, seed 42, by a Python program written from the page.
  const auto expect = [](std::size_t count, unsigned rounds,
                         const std::vector<std::pair<std::size_t, double>>& expected) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 7);
    Rotation(count, rounds).rotate(values, 42);
    for (const auto& [at, value] : expected) CHECK(values[at] == Approx(value).margin(1e-4));
  };
  expect(300, 2, {{0, 3.4062}, {43, -0.9688}, {44, 0.9473}, {255, 1.5684}, {299, -0.9404}});
  expect(800, 1, {{0, -5.7010}, {511, 0.5745}, {543, -0.8750}, {544, 1.7656}, {799, 3.7969}});
  CHECK(Rotation(300, 2).groups() == std::vector<std::size_t>{44, 256});
  CHECK(Rotation(800, 1).groups() == std::vector<std::size_t>{512, 32, 256});
}

TEST_CASE("a rotation is undone by its reverse and keeps the norm", "[codec][hadamard]") {
  for (const std::size_t count : {0U, 1U, 255U, 256U, 257U, 511U, 512U, 8193U, 16'639U, 50'000U}) {
    for (const unsigned rounds : {1U, 2U}) {
      INFO(count << " values, " << rounds << " rounds");
      const Rotation rotation(count, rounds);
      const auto& groups = rotation.groups();
      CHECK(std::accumulate(groups.begin(), groups.end(), std::size_t{0}) == count);
      CHECK(std::count(groups.begin(), groups.end(), 0) == 0);
      const std::vector<float> values = normal_values(count, 5);
      std::vector<float> turned = values;
      rotation.rotate(turned, 6);
      CHECK((turned == values) == !rotation.turns());
      CHECK(square_norm(turned) == Approx(square_norm(values)).epsilon(1e-5));
      rotation.unrotate(turned, 6);
      for (std::size_t i = 0; i < count; ++i) {
        REQUIRE(turned[i] == Approx(values[i]).margin(1e-5));
      }
    }
  }
}

TEST_CASE("a rotation spreads one large value over its block", "[codec][hadamard]") {
  // Position 8400 is in the part that no power of two covers.
  for (const std::size_t at : {0U, 5000U, 8400U}) {
    std::vector<float> values(8448 - 17, 0.0F);
    values[at] = 1;
    const Rotation rotation(values.size(), 2);
    rotation.rotate(values, 7);
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    CHECK(largest < 5 / std::sqrt(at < 8192 ? 8192.0F : 256.0F));
  }
}

TEST_CASE("other seeds turn otherwise", "[codec][hadamard]") {
  const std::vector<float> values(1000, 1.0F);
  const Rotation rotation(1000, 1);
  std::vector<float> one = values, other = values;
  rotation.rotate(one, 8);
  rotation.rotate(other, 9);
  double product = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    product += static_cast<double>(one[i]) * other[i];
  }
  CHECK(std::abs(product) < 5 * std::sqrt(1000.0));  // of |x|^2 = 1000
}

TEST_CASE("the largest magnitude that may be rotated stays finite", "[codec][hadamard]") {
  std::vector<float> values(8192, Rotation::kMagnitudeMax);
  const Rotation rotation(values.size(), 2);
  rotation.rotate(values, 10);
  CHECK(
      std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }));
  CHECK(square_norm(values) ==
        Approx(8192 * std::pow(static_cast<double>(Rotation::kMagnitudeMax), 2)).epsilon(1e-5));
}
