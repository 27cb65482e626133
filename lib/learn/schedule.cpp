// constant, linear and cosine (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, equation
// 5 without restarts), each behind a linear warm-up.

#include "learn/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fedctl::learn {

void ScheduleOptions::fields(config::Fields& fields) {
  fields.real("warmup", warmup, {.min = 0, .below = 1},
              "share of the way during which the rate rises to lr");
  fields.integer("warmup_steps", warmup_steps, {.min = 0, .max = 1'000'000'000},
                 "the same in steps; 0: warmup counts");
  fields.real("floor", floor, {.min = 0, .max = 1}, "share of lr at the end; nothing to constant");
  fields.text("over", over, {.one_of = {"run", "round"}},
              "what the way is: all rounds, or each round anew");
}

const config::Kinds& schedule_kinds() {
  const auto make = [] { return std::make_unique<ScheduleOptions>(); };
  static const config::Kinds kinds = {
      {"constant", "lr at every step", "", make},
      {"cosine", "half a cosine from lr down to floor",
       "Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983", make},
      {"linear", "a straight line from lr down to floor", "", make},
  };
  return kinds;
}

double schedule_factor(const config::Plugin& schedule, double step, double steps) {
  const auto& options = schedule.as<ScheduleOptions>();
  const double warmup =
      options.warmup_steps > 0 ? static_cast<double>(options.warmup_steps) : options.warmup * steps;
  if (step < warmup) return std::min(1.0, (step + 1) / warmup);
  if (schedule.kind == "constant") return 1;
  // With a floor the last step has it; 0 would be a step lost, and is that of the one behind.
  const double last = options.floor > 0 ? steps - 1 : steps;
  const double way = std::clamp((step - warmup) / std::max(1.0, last - warmup), 0.0, 1.0);
  const double rest =
      schedule.kind == "linear" ? 1 - way : 0.5 * (1 + std::cos(std::numbers::pi * way));
  return options.floor + (1 - options.floor) * rest;
}

}  // namespace fedctl::learn
