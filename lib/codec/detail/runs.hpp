// Runs of the most frequent number, and Golomb's parameter for them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace fedctl::codec::detail {

// The most frequent number; of equals the lowest. Precondition: there is one.
std::uint8_t most_frequent(std::span<const std::uint8_t> symbols);

// How many runs of each length there are.
class RunLengths {
 public:
  void add(std::uint64_t length) {
    if (length < short_.size()) {
      ++short_[length];
    } else {
      long_.push_back(length);
    }
  }
  // Golomb's M: of the numbers with at most five significant bits (1, 2, ..., 32, 34, ..., 64, 68,
  // ...), with `power_of_two` of the powers of two, that with the fewest bits; of equals the
  // smallest. Precondition: there is a run.
  std::uint64_t best_parameter(bool power_of_two) const;

 private:
  struct Runs {
    std::uint64_t length, count;
  };
  std::vector<Runs> distinct() const;

  std::array<std::uint64_t, 4096> short_{};
  std::vector<std::uint64_t> long_;
};

}  // namespace fedctl::codec::detail
