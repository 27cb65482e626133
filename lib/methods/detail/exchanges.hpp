// How the questions of a round are numbered: bits 0 to 31 the round, 32 to 47 the step of a
// conversation with one client, 48 to 51 the stage of secure aggregation, 52 to 61 how often the
// round had been tried before. The task's number in a first attempt is the round itself.
#pragma once

#include "methods/attempt.hpp"
#include "talk/endpoint.hpp"

namespace fedctl::methods {

using talk::ExchangeId;

inline constexpr int kStepBits = 32, kStageBits = 48, kAttemptBits = 52;
inline constexpr std::int64_t kStepsMax = (std::int64_t{1} << (kStageBits - kStepBits)) - 1;

// The task of a round.
inline ExchangeId task_exchange(Attempt attempt) {
  return static_cast<ExchangeId>(attempt.round) | static_cast<ExchangeId>(attempt.before)
                                                      << kAttemptBits;
}
// Question number `step` of one client in that round; 0 is the task. Precondition: at most
// kStepsMax.
inline ExchangeId step_exchange(Attempt attempt, std::int64_t step) {
  return task_exchange(attempt) | static_cast<ExchangeId>(step) << kStepBits;
}
// The exchange of a stage of a round; stage 2 is the task.
inline ExchangeId stage_exchange(Attempt attempt, int stage) {
  const int order = stage == 2 ? 0 : stage + 1;
  return task_exchange(attempt) | static_cast<ExchangeId>(order) << kStageBits;
}
// The round of any exchange.
inline std::int64_t round_of(ExchangeId exchange) {
  return static_cast<std::int64_t>(exchange & ((ExchangeId{1} << kStepBits) - 1));
}
// Whether it is the task's, of any attempt.
inline bool is_task(ExchangeId exchange) {
  constexpr ExchangeId kNumber = (ExchangeId{1} << kAttemptBits) - 1;
  return (exchange & kNumber) == static_cast<ExchangeId>(round_of(exchange));
}

}  // namespace fedctl::methods
