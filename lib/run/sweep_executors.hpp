// Where the runs of a sweep are computed.
#pragma once

#include <string>
#include <vector>

#include "run/printer.hpp"
#include "run/run_directory.hpp"
#include "run/sweep.hpp"
#include "run/sweep_outcome.hpp"

namespace fedctl::run {

struct Execution {
  int signal = 0;       // that ended it early, or 0
  bool ended = true;    // else a queue goes on with it
  int last_status = 0;  // exit status of the last run that ended
};

// `fedctl simulate` of a run, whose directory exists.
std::vector<std::string> command_of(const Sweep& sweep, std::size_t run, Start start,
                                    std::size_t threads);

// Computes the runs in order, as many at a time as there are jobs, each in a process of its own; a
// run that ended is read again into `outcomes`. The first signal is passed on and waited for.
// `threads` of each run. Throws RunDirectoryError.
Execution run_local(const Sweep& sweep, const std::vector<std::size_t>& runs, std::size_t jobs,
                    std::size_t threads, std::vector<Outcome>& outcomes, Printer& printer);

// Submits one job array with a task for each run, or finds the one that was submitted before, and
// waits for it if the options say so; outcomes are read again. Throws ConfigError if Slurm refuses.
Execution run_slurm(const Sweep& sweep, const std::vector<std::size_t>& runs,
                    std::vector<Outcome>& outcomes, Printer& printer);
// The script that it submits.
std::string array_script(const Sweep& sweep, const std::vector<std::size_t>& runs);

}  // namespace fedctl::run
