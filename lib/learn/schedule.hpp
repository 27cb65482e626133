// Learning rate schedules: the factor of the optimizer's lr at each step. Over the run, step s of
// round r is step (r - 1) * S + s of rounds * S, where S is the number of steps this client makes
// in a round: clients with different numbers of examples are at the same share of their way at the
// same round.
#pragma once

#include <cstdint>

#include "config/fields.hpp"

namespace fedctl::learn {

struct ScheduleOptions : config::Options {
  double warmup = 0;              // share of the way
  std::int64_t warmup_steps = 0;  // > 0: steps instead
  double floor = 0;               // factor at the end
  std::string over = "run";
  void fields(config::Fields& fields) override;
};

// constant, linear, cosine; all with ScheduleOptions.
const config::Kinds& schedule_kinds();

// The factor of step `step` (from 0) of `steps`: (step + 1) / w in the first w steps, so that no
// step is lost; then from 1 to `floor` at the last step. A floor of 0 would be reached by the step
// behind the last one.
double schedule_factor(const config::Plugin& schedule, double step, double steps);

}  // namespace fedctl::learn
