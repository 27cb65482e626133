// The first rounds of a job over the frames of a simulation, to see what they cost.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "run/job.hpp"
#include "talk/ledger.hpp"

namespace fedctl::run {

// Stand for the model where only the number of slopes matters: their losses are any numbers.
// `layout` outlives them.
std::unique_ptr<learn::LearnerPool> make_guessers(const Layout& layout);

// A folder of this process's own, made now, gone with all that is in it at destruction, and with
// its parent if that was not there before. Throws RunDirectoryError.
class TrialFolder {
 public:
  explicit TrialFolder(const std::filesystem::path& parent);
  ~TrialFolder();
  TrialFolder(const TrialFolder&) = delete;
  TrialFolder& operator=(const TrialFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + '/' + name; }

 private:
  std::string path_, new_parent_;
};

struct TrialRound {
  talk::Crossing bytes;
  talk::Traffic peers;  // from client to client
  double wall_s = 0;
};
// What each of plan.rounds rounds costs among the first plan.clients clients, who train on
// `learners`, as many at once as there are of them; the server has the job's own.
std::vector<TrialRound> trial(Job& job, const methods::JobPlan& plan, learn::LearnerPool& learners);

}  // namespace fedctl::run
