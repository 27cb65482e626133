// Rng: our own counter-based generator, so that the same name gives the same numbers for ever, on
// any machine, in any order of use. Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011); known-answer vectors in tests/base/rng_test.cpp.
//
// A stream is named by a path of words and numbers below the experiment's seed:
//   Rng(seed).stream("sampling", round)      Rng(seed).stream("order", client, round)
// Two streams with different paths are independent; a stream is a plain value and may be copied.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace fedctl {

// One block: four words from a 128-bit counter and a 64-bit key.
std::array<std::uint32_t, 4> philox4x32_10(std::array<std::uint32_t, 4> counter,
                                           std::array<std::uint32_t, 2> key);

class Rng {
 public:
  explicit Rng(std::uint64_t seed) : key_(seed) {}

  // A child stream: its key is the first eight bytes of BLAKE2b-256 of this stream's key, the name
  // and the numbers. Independent of how much has been drawn here.
  template <class... Numbers>
  Rng stream(std::string_view name, Numbers... numbers) const {
    const std::array<std::int64_t, sizeof...(Numbers)> path{static_cast<std::int64_t>(numbers)...};
    return Rng(child_key(name, path));
  }

  // The stream in eight bytes: Rng(key()) is this one from its beginning.
  std::uint64_t key() const { return key_; }

  std::uint32_t next_u32() {
    if (used_ == 4) refill();
    return block_[used_++];
  }
  std::uint64_t next_u64() {
    const std::uint64_t low = next_u32();
    return low | (static_cast<std::uint64_t>(next_u32()) << 32);
  }
  // Uniform in [0, 1): the top 24 bits of one word, exactly representable.
  float uniform() { return static_cast<float>(next_u32() >> 8) * 0x1p-24F; }
  // Uniform in [0, 1): the top 53 bits of two words.
  double uniform_double() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform_double(); }
  // Uniform in [0, bound), without bias (Lemire 2019). Precondition: bound > 0.
  std::uint64_t below(std::uint64_t bound);
  // Standard normal: Box-Muller in double, two words for each of two numbers.
  double normal();
  // Gamma(shape, 1) by Marsaglia and Tsang (2000); shape > 0.
  double gamma(double shape);

  template <class T>
  void shuffle(std::span<T> items) {
    for (std::size_t left = items.size(); left > 1; --left) {
      std::swap(items[left - 1], items[static_cast<std::size_t>(below(left))]);
    }
  }
  // 0 .. count-1 in random order.
  std::vector<std::size_t> permutation(std::size_t count);

 private:
  std::uint64_t child_key(std::string_view name, std::span<const std::int64_t> numbers) const;
  void refill();

  std::uint64_t key_;
  std::uint64_t counter_ = 0;
  std::array<std::uint32_t, 4> block_{};
  unsigned used_ = 4;
  double spare_normal_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace fedctl
