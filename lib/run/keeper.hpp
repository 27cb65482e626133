// Keeper: what happens at every round boundary on the server: evaluation, ledger, checkpoint,
// journal line, output.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "run/job.hpp"
#include "run/printer.hpp"
#include "run/quality.hpp"
#include "run/run_directory.hpp"
#include "talk/ledger.hpp"

namespace fedctl::run {

class Keeper final : public methods::RoundSink {
 public:
  Keeper(Job& job, RunDirectory& directory, journal::Journal& journal, talk::Ledger& ledger,
         Printer& printer, methods::Stragglers& stragglers);

  // A new run: writes the `start` line, round 0 (the untuned model) and its checkpoint. A resumed
  // one: loads the checkpoint into weights() and `method`, and writes the `resume` line.
  void start(methods::ServerMethod& method);

  // The round's bytes reach the journal after the checkpoint: a line in the journal is never
  // undone.
  bool commit(const methods::RoundReport& report, const methods::ServerMethod& method) override;
  void lacking(const Shortage& shortage) override;
  // A checkpoint of the same round, from which the open one begins anew.
  void retry(const Shortage& shortage, const methods::ServerMethod& method) override;
  void waiting(std::int64_t present, std::int64_t needed) override;

  // What goes into every checkpoint beside this, and what is done when a round is on the disk.
  struct Hooks {
    std::function<Parts()> parts;
    std::function<void(std::int64_t next_round, std::int64_t attempt)> begin;
    std::function<void()> ends = {};  // in the midst of a round, for a shortage
  };
  void attach(Hooks hooks) { hooks_ = std::move(hooks); }
  // Of the checkpoint that start() has loaded.
  const Parts& parts() const { return parts_; }
  std::int64_t run_number() const { return run_number_; }

  // The `end` line, and adapter/last.
  void end(const std::string& status, const std::string& reason);

  // From any thread, also a signal handler's: commit() returns false from now on, as it does once
  // evaluate.patience is spent.
  void stop() { stopping_ = true; }
  bool stopping() const { return stopping_ || out_of_patience_ || over_budget_; }
  // Why no further round was begun, if it was for a budget's sake.
  const std::optional<Budget::Reason>& over_budget() const { return over_budget_reason_; }

  std::vector<float>& weights() { return weights_; }
  std::int64_t round() const { return round_; }      // the last committed one
  std::int64_t attempt() const { return attempt_; }  // at the next one

 private:
  // What this round line tells of the model: the server's own measurement, or the clients'.
  std::optional<Quality> evaluate(const methods::RoundReport& report);
  // Keeps the best model, and counts the evaluations since the last improvement.
  void judge(const Quality& quality);
  void save_adapter(const std::string& name, std::span<const float> weights, std::int64_t round);
  void save_checkpoint(const methods::ServerMethod& method);
  void tell(const Shortage& shortage);
  // Of the open round, all attempts.
  std::map<talk::PeerId, talk::Crossing> take_bytes();
  void load_checkpoint(methods::ServerMethod& method);
  void check_budget();
  // Takes back weights that are not finite, and throws an Error: nothing of the round is kept.
  void require_finite(std::int64_t round);
  void journal_clients(const std::map<talk::PeerId, talk::Crossing>& by_peer,
                       const methods::RoundReport& report);
  journal::Event round_event(const methods::RoundReport& report,
                             const std::optional<Quality>& quality, const talk::Crossing& bytes,
                             double round_ms);

  Job& job_;
  RunDirectory& directory_;
  journal::Journal& journal_;
  talk::Ledger& ledger_;
  Printer& printer_;
  methods::Stragglers& stragglers_;
  std::vector<float> weights_;
  Hooks hooks_;
  Parts parts_;
  std::int64_t run_number_ = 0;  // drawn when the run begins
  std::int64_t round_ = 0, attempt_ = 0;
  std::string line_;  // of the last committed round
  // What crossed in attempts at the open round that failed.
  std::map<talk::PeerId, talk::Crossing> attempted_;
  std::int64_t last_present_ = -1;  // that people were told of while clients were awaited
  std::uint64_t bytes_up_total_ = 0, bytes_down_total_ = 0;
  std::optional<double> best_;
  std::int64_t best_round_ = 0;
  std::optional<double> bar_;    // the score that patience asks to be exceeded by min_delta
  std::int64_t stale_ = 0;       // evaluations since it was
  std::vector<float> previous_;  // evaluate.on: clients: the weights the clients score
  std::chrono::steady_clock::time_point boundary_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> out_of_patience_ = false;
  Budget budget_;
  std::optional<Budget::Reason> over_budget_reason_;
  std::atomic<bool> over_budget_ = false;
};

}  // namespace fedctl::run
