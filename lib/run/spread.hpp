// budget.spread: the bits of every codec auto that has none of its own, so that the run spends
// budget.total_bytes.
#pragma once

#include "run/job.hpp"

namespace fedctl::run {

// Plays two rounds with codecs of 8 and of 16 bits a value and a learner whose numbers do not matter,
// to see what the method's messages take, frames and what is not coded included, and sets the bits
// in job.experiment. Whoever reads the plan finds them there. Throws ConfigError if the budget is
// too small.
void spread_budget(Job& job);

}  // namespace fedctl::run
