#include "base/rng.hpp"

#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>

#include "base/assert.hpp"
#include "base/digest.hpp"

namespace fedctl {

std::array<std::uint32_t, 4> philox4x32_10(std::array<std::uint32_t, 4> counter,
                                           std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t left = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t right = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(right >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(right),
               static_cast<std::uint32_t>(left >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(left)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

std::uint64_t Rng::child_key(std::string_view name, std::span<const std::int64_t> numbers) const {
  Digest digest;
  digest.add(std::as_bytes(std::span(&key_, 1))).add(name).add(std::as_bytes(numbers));
  const auto bytes = digest.bytes();
  std::uint64_t key = 0;
  std::memcpy(&key, bytes.data(), sizeof key);
  return key;
}

void Rng::refill() {
  block_ = philox4x32_10(
      {static_cast<std::uint32_t>(counter_), static_cast<std::uint32_t>(counter_ >> 32), 0, 0},
      {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32)});
  ++counter_;
  used_ = 0;
}

std::uint64_t Rng::below(std::uint64_t bound) {
  FEDCTL_ASSERT(bound > 0);
  using Wide = unsigned __int128;
  Wide product = static_cast<Wide>(next_u64()) * bound;
  if (static_cast<std::uint64_t>(product) < bound) {
    const std::uint64_t threshold = -bound % bound;
    while (static_cast<std::uint64_t>(product) < threshold) {
      product = static_cast<Wide>(next_u64()) * bound;
    }
  }
  return static_cast<std::uint64_t>(product >> 64);
}

double Rng::normal() {
  if (!std::isnan(spare_normal_)) {
    return std::exchange(spare_normal_, std::numeric_limits<double>::quiet_NaN());
  }
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform_double()));
  const double angle = 2.0 * std::numbers::pi * uniform_double();
  spare_normal_ = radius * std::sin(angle);
  return radius * std::cos(angle);
}

double Rng::gamma(double shape) {
  FEDCTL_ASSERT(shape > 0);
  if (shape < 1) {
    const double boosted = gamma(shape + 1);
    return boosted * std::pow(1.0 - uniform_double(), 1.0 / shape);
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = normal();
    const double v = std::pow(1.0 + c * x, 3);
    if (v <= 0) continue;
    const double u = 1.0 - uniform_double();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

std::vector<std::size_t> Rng::permutation(std::size_t count) {
  std::vector<std::size_t> items(count);
  std::iota(items.begin(), items.end(), std::size_t{0});
  shuffle(std::span(items));
  return items;
}

}  // namespace fedctl
