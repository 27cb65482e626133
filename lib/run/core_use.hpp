// How a simulation uses the cores: one client on each, or one client on all of them at a time.
// Measured at the start. The second is taken only where it is faster and gives the same bits, so a
// result never depends on the machine's mood.
#pragma once

#include <string>

#include "run/job.hpp"

namespace fedctl::run {

struct CoreUse {
  std::size_t workers = 1, threads_each = 1;
  double step_ms = 0;         // of a client, on one core
  double shared_step_ms = 0;  // on all cores; 0: not measured
  bool same_bits = true;
  std::string text() const;  // for people
};

// Sets job.learners. Work of less than some seconds is not worth the measurement.
CoreUse share_cores(Job& job);

}  // namespace fedctl::run
