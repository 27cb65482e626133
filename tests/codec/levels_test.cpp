#include "codec/detail/levels.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "base/rng.hpp"
#include "codec/detail/entropy.hpp"

using namespace fedctl;
using namespace fedctl::codec::detail;

TEST_CASE("the integer logarithm is right to 16 bits", "[codec][levels]") {
  for (const std::uint32_t value : {1U, 2U, 3U, 5U, 1000U, 65536U, 16777215U, 4294967295U}) {
    CHECK(static_cast<double>(log2_q16(value)) / 65536 ==
          Approx(std::log2(static_cast<double>(value))).margin(2e-5));
  }
}

TEST_CASE("the entropy of counts", "[codec][levels]") {
  const std::vector<std::uint32_t> fair = {512, 512}, single = {0, 1024, 0}, skewed = {1, 3};
  CHECK(entropy_q16(fair) == std::uint64_t{1024} << 16);
  CHECK(entropy_q16(single) == 0);
  CHECK(static_cast<double>(entropy_q16(skewed)) / 65536 == Approx(3.24511).epsilon(1e-4));
}

TEST_CASE("values become levels around a wider cell of zero", "[codec][levels]") {
  const std::vector<float> values = {0, 0.5F, -0.5F, 0.56F, 1.54F, 1.56F, -1.56F, 100};
  std::vector<std::int32_t> levels(values.size());
  to_levels(values, 1, levels);
  CHECK(levels == std::vector<std::int32_t>{0, 0, 0, 1, 1, 2, -2, 100});
  CHECK(low_bits_of(levels) == 0);
  to_levels(values, 0.25F, levels);
  CHECK(levels[7] == 400);
  CHECK(low_bits_of(levels) == 2);
}

TEST_CASE("parts that differ in size are worth classes, equal ones are not", "[codec][levels]") {
  Rng rng(1);
  std::vector<std::int32_t> equal(64 * kSegment), mixed;
  for (std::int32_t& level : equal) level = static_cast<std::int32_t>(rng.below(7)) - 3;
  mixed = equal;
  for (std::size_t i = 0; i < mixed.size() / 2; ++i) mixed[i] = 0;
  CHECK(!size_of(equal, 0).classes);
  CHECK(size_of(mixed, 0).classes);
  CHECK(size_of(mixed, 0).bits_q16 < size_of(equal, 0).bits_q16 * 6 / 10);
}

TEST_CASE("the step meets its target", "[codec][levels]") {
  Rng rng(2);
  std::vector<float> values(1 << 16);
  for (float& value : values) value = static_cast<float>(rng.normal());
  std::vector<std::int32_t> levels(values.size());
  for (const double bits : {0.1, 0.5, 2.0, 6.0}) {
    INFO(bits);
    to_levels(values, find_step(values, 5, {bits, 0}), levels);
    const double spent = static_cast<double>(size_of(levels, low_bits_of(levels)).bits_q16) / 65536;
    CHECK(spent / static_cast<double>(values.size()) == Approx(bits).epsilon(0.03));
  }
  CHECK(find_step(std::vector<float>(9), 0, {1, 0}) == 0);
  CHECK(find_step(std::vector<float>{1e-44F, 0}, 1e-44F, {1, 0}) == 0);
}
