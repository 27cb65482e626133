// Processes that a sweep starts: runs, and the commands of Slurm.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "run/run_directory.hpp"
#include "run/sweep.hpp"

namespace fedctl::run {

// The path of this program.
std::string own_program();
// `fedctl simulate` of a run, whose directory exists.
std::vector<std::string> command_of(const Sweep& sweep, std::size_t run, Start start,
                                    std::size_t threads);
// As a POSIX shell reads it.
std::string shell_text(const std::vector<std::string>& words);

// Starts words[0] with its standard error in the log, in a process group of its own. It is killed
// when the calling thread's process is. Throws RunDirectoryError.
pid_t start_process(const std::vector<std::string>& words, const std::string& log);
// The status a shell would see: 128 + N for signal N.
int exit_status(int wait_status);

// What the command has printed. Throws ConfigError if there is no such command.
struct Printed {
  int status = 0;
  std::string out, err;
};
Printed run_command(const std::vector<std::string>& words);

}  // namespace fedctl::run
