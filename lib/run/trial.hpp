// The first rounds of a job over the frames of a simulation, to see what they cost.
#pragma once

#include <memory>
#include <vector>

#include "run/job.hpp"
#include "talk/ledger.hpp"

namespace fedctl::run {

// Stand for the model where only the number of slopes matters: their losses are any numbers.
// `layout` outlives them.
std::unique_ptr<learn::LearnerPool> make_guessers(const Layout& layout);

struct TrialRound {
  talk::Crossing bytes;
  talk::Traffic peers;  // from client to client
  double wall_s = 0;
};
// What each of plan.rounds rounds costs among the first plan.clients clients, who train on
// `learners`, as many at once as there are of them; the server has the job's own.
std::vector<TrialRound> trial(Job& job, const methods::JobPlan& plan, learn::LearnerPool& learners);

}  // namespace fedctl::run
