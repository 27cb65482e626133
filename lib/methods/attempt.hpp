// Attempt: one try at a round. A round that too few clients answer is asked again, under other
// numbers, so that an answer to one try is never taken for an answer to another.
#pragma once

#include <cstdint>

namespace fedctl::methods {

struct Attempt {
  // NOLINTNEXTLINE(google-explicit-constructor): a round is its own first attempt.
  Attempt(std::int64_t round_, std::int64_t before_ = 0) : round(round_), before(before_) {}
  std::int64_t round;
  std::int64_t before;  // tries that failed; at most kAttemptsMax
};
inline constexpr std::int64_t kAttemptsMax = 1000;
inline constexpr std::int64_t kRoundsMax = 10'000'000;

}  // namespace fedctl::methods
