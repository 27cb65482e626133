// What has become of a run of a sweep, as its directory says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "run/run_directory.hpp"

namespace fedctl::run {

// Beside the run's own files: the standard error of the process that computed it last, and its exit
// status once it has ended by itself.
inline constexpr const char* kLogName = "sweep.log";
inline constexpr const char* kStatusName = "sweep.status";

struct Outcome {
  enum class State {
    missing,     // new, or died before its first checkpoint
    unfinished,  // can be resumed
    failed,      // ended with an error; may be tried again
    done,
  };
  State state = State::missing;
  Start start = Start::create;   // what goes on with it
  std::optional<double> metric;  // of the last evaluated round; none if it is null or not there
  std::int64_t rounds = 0;
  std::uint64_t bytes_up = 0, bytes_down = 0;
  double seconds = 0;   // sum of its rounds' wall time
  int status = 0;       // failed: exit status
  std::string message;  // failed: the last line of its standard error that is not a hint
};

// `metric` is a key of the round line; "client_accuracy.p10" is one inside it.
Outcome read_outcome(const std::string& directory, const std::string& metric);
const char* name_of(Outcome::State state);
// Makes the directory, and forgets the status of the process before.
void forget_status(const std::string& directory);
void save_status(const std::string& directory, int status);

}  // namespace fedctl::run
