// How the questions of a round are numbered: bits 0 to 31 the round, 32 to 47 the step of a
// conversation with one client, from 48 on the stage of secure aggregation. The task's number is
// the round itself.
#pragma once

#include "talk/endpoint.hpp"

namespace fedctl::methods {

using talk::ExchangeId;

inline constexpr int kStepBits = 32, kStageBits = 48;
inline constexpr std::int64_t kStepsMax = (std::int64_t{1} << (kStageBits - kStepBits)) - 1;

// Question number `step` of one client in that round; 0 is the task. Precondition: at most
// kStepsMax.
inline ExchangeId step_exchange(std::int64_t round, std::int64_t step) {
  return static_cast<ExchangeId>(round) | static_cast<ExchangeId>(step) << kStepBits;
}
// The exchange of a stage of a round; the task's (stage 2) is the round's own.
inline ExchangeId stage_exchange(std::int64_t round, int stage) {
  const int order = stage == 2 ? 0 : stage + 1;
  return static_cast<ExchangeId>(round) | static_cast<ExchangeId>(order) << kStageBits;
}
// The round of any exchange.
inline std::int64_t round_of(ExchangeId exchange) {
  return static_cast<std::int64_t>(exchange & ((ExchangeId{1} << kStepBits) - 1));
}

}  // namespace fedctl::methods
