// ServerRun: what `server` and `simulate` have in common: run directory, journal, job, method,
// keeper, signals, the end of the run.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "run/commands.hpp"
#include "run/keeper.hpp"
#include "run/signals.hpp"

namespace fedctl::run {

// The first of several coroutines' errors.
class FirstError {
 public:
  void keep(std::exception_ptr error) {
    const std::scoped_lock lock(mutex_);
    if (!error_) error_ = error;
  }
  std::exception_ptr get() const {
    const std::scoped_lock lock(mutex_);
    return error_;
  }

 private:
  mutable std::mutex mutex_;
  std::exception_ptr error_;
};

class ServerRun {
 public:
  // Reads the experiment, opens the run directory, data and model, and evaluates round 0 or loads
  // the checkpoint.
  ServerRun(const RunOptions& options, const std::string& role);

  Job& job() { return job_; }
  talk::Ledger& ledger() { return ledger_; }
  journal::Journal& journal() { return *journal_; }
  Keeper& keeper() { return keeper_; }
  const RunDirectory& directory() const { return directory_; }
  Printer& printer() { return printer_; }

  // Before conversation(): the open round has ended so many processes for a shortage of answers.
  void resume_after(std::int64_t endings) { context_.endings = endings; }
  // What the first signal does beside asking for a stop at the next boundary.
  void on_interrupt(std::function<void()> action);
  // What is done once the end event is written.
  void on_end(std::function<void()> action) { end_ = std::move(action); }
  // How it knows what clients tell each other.
  void vouch(methods::Vouching vouching) { context_.vouching = std::move(vouching); }
  // The server's side of the method; run it once, then finish().
  talk::Task<void> conversation(talk::Endpoint& net);
  // The status of the end event: what clients are told, and finish() after them.
  std::string status(std::exception_ptr error) const;
  // Writes the end of the run and returns the exit status; rethrows `error` unless a signal
  // explains it.
  int finish(const std::string& how, std::exception_ptr error);

 private:
  Printer printer_;
  Experiment experiment_;
  RunDirectory directory_;
  std::unique_ptr<journal::Journal> journal_;
  talk::Ledger ledger_;
  Job job_;
  std::unique_ptr<aggregate::Aggregator> aggregator_;
  std::unique_ptr<methods::ServerMethod> method_;
  methods::Stragglers stragglers_;
  Keeper keeper_;
  methods::ServerContext context_;
  std::mutex interrupt_mutex_;
  std::function<void()> interrupt_;
  std::function<void()> end_ = [] {};
  std::string role_;
  Signals signals_;  // last: its thread uses the others
};

}  // namespace fedctl::run
