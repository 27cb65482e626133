// Runs of a sweep as processes on this machine.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <mutex>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "run/process.hpp"
#include "run/signals.hpp"
#include "run/sweep_executors.hpp"
#include "run/text.hpp"

namespace fedctl::run {
namespace {

// Processes under way, and the stop that a signal asks for. kill(2) comes from the signals' thread,
// so a process is only waited for once it is out of the list.
class Processes {
 public:
  void stop() {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    for (const auto& [process, run] : running_) ::kill(process, SIGTERM);
  }
  bool stopping() const {
    const std::scoped_lock lock(mutex_);
    return stopping_;
  }
  std::size_t count() const {
    const std::scoped_lock lock(mutex_);
    return running_.size();
  }
  void start(std::size_t run, const std::vector<std::string>& words, const std::string& log) {
    const std::scoped_lock lock(mutex_);
    if (!stopping_) running_.emplace(start_process(words, log), run);
  }
  struct Ended {
    std::size_t run;
    int status;
  };
  Ended wait() {
    siginfo_t info{};
    while (::waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) != 0) {
      if (errno != EINTR) throw RunDirectoryError("lost the processes of the sweep");
    }
    const std::scoped_lock lock(mutex_);
    const auto found = running_.extract(info.si_pid);
    FEDCTL_ASSERT(!found.empty());  // nothing else starts a process here
    return {found.mapped(), wait_for(info.si_pid)};
  }

 private:
  mutable std::mutex mutex_;
  std::map<pid_t, std::size_t> running_;
  bool stopping_ = false;
};

std::string left_text(double seconds) {
  if (seconds < 90) return print("about %.0f s left", seconds);
  if (seconds < 5400) return print("about %.0f min left", seconds / 60);
  return print("about %.1f h left", seconds / 3600);
}

// Whether the process was asked to stop: the run is unfinished, not failed.
bool interrupted(int status) { return status == 128 + SIGINT || status == 128 + SIGTERM; }

}  // namespace

std::vector<std::string> command_of(const Sweep& sweep, std::size_t run, Start start,
                                    std::size_t threads) {
  std::vector<std::string> words = {own_program(), "simulate", "--config", sweep.experiment};
  for (const Setting& setting : sweep.set) add_setting(words, setting.key, setting.value);
  for (const Setting& setting : sweep.cell_of(run).settings) {
    add_setting(words, setting.key, setting.value);
  }
  add_setting(words, "seed", std::to_string(sweep.seed_of(run)));
  for (const std::string& word : {std::string("--run-dir"), sweep.directory_of(run),
                                  std::string("--threads"), std::to_string(threads)}) {
    words.push_back(word);
  }
  words.emplace_back("--quiet");
  if (start == Start::resume) words.emplace_back("--resume");
  if (start == Start::discard) words.emplace_back("--fresh");
  return words;
}

Execution run_local(const Sweep& sweep, const std::vector<std::size_t>& runs, std::size_t jobs,
                    std::size_t threads, std::vector<Outcome>& outcomes, Printer& printer) {
  jobs = std::max<std::size_t>(1, std::min(jobs, runs.size()));
  Processes processes;
  const Signals signals([&] {
    printer.notice("stopping; runs end at their last round (press again to end at once)");
    processes.stop();
  });
  Execution execution;
  const auto begin = std::chrono::steady_clock::now();
  std::size_t next = 0, ended = 0;
  while (true) {
    while (next < runs.size() && processes.count() < jobs && !processes.stopping()) {
      const std::size_t run = runs[next++];
      const std::string directory = sweep.directory_of(run);
      forget_status(directory);
      processes.start(run, command_of(sweep, run, outcomes[run].start, threads),
                      directory + '/' + kLogName);
    }
    if (processes.count() == 0) break;
    const auto [run, status] = processes.wait();
    const std::string directory = sweep.directory_of(run);
    execution.last_status = status;
    if (!interrupted(status)) save_status(directory, status);
    outcomes[run] = read_outcome(directory, sweep.metric);
    const std::string which =
        sweep.cell_of(run).label() + " seed " + std::to_string(sweep.seed_of(run));
    ++ended;
    if (outcomes[run].state == Outcome::State::failed) {
      printer.notice("failed: " + which + ": exit status " + std::to_string(status) + ": " +
                     outcomes[run].message);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const double each = took.count() / static_cast<double>(ended);
    printer.progress(std::to_string(ended) + " of " + std::to_string(runs.size()) + " runs, " +
                     left_text(each * static_cast<double>(runs.size() - ended)) +
                     "; last: " + which);
  }
  execution.signal = signals.caught();
  return execution;
}

}  // namespace fedctl::run
