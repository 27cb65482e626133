#include "run/server_run.hpp"

#include "base/clock.hpp"
#include "learn/processor.hpp"

namespace fedctl::run {
namespace {

std::string run_directory_of(const RunOptions& options, const Experiment& experiment) {
  return options.run_dir.empty() ? "runs/" + experiment.name : options.run_dir;
}

}  // namespace

ServerRun::ServerRun(const RunOptions& options, const std::string& role)
    : printer_(options.output.format, options.output.quiet, options.output.verbose),
      experiment_(read_experiment(options.source)),
      directory_(run_directory_of(options, experiment_), options.start),
      journal_(std::make_unique<journal::Journal>(
          directory_.file("journal.jsonl"),
          journal::Identity{experiment_.name, "server", std::nullopt}, wall_ms)),
      job_(make_job(std::move(experiment_), thread_count(options.threads),
                    {.server_folder = role == "server" ? directory_.path() : ""})),
      aggregator_(job_.make_aggregator()),
      method_(job_.make_server()),
      stragglers_(job_.plan.deadline_s == 0),
      keeper_(job_, directory_, *journal_, ledger_, printer_, stragglers_),
      context_{job_.plan, keeper_.weights(), *aggregator_, job_.rng().stream("server"),
               *journal_, keeper_,           stragglers_,  *job_.learners,
               1},
      role_(role),
      signals_([this] {
        printer_.notice("stopping; the open round is given up (press again to end at once)");
        keeper_.stop();
        const std::scoped_lock lock(interrupt_mutex_);
        if (interrupt_) interrupt_();
      }) {
  for (const std::string& line : warnings(job_.experiment, job_.plan.layout.size())) {
    printer_.notice("warning: " + line);
  }
  const bool computes = role_ == "simulate" || job_.experiment.evaluate.on != "clients";
  const std::string slow = computes ? learn::slow_here(job_.experiment.model) : "";
  if (!slow.empty()) printer_.notice("warning: " + slow);
  if (role == "server" && job_.experiment.server.max_examples == 0 && !job_.plan.secure.on &&
      sites_may_have_data(job_.experiment)) {
    printer_.notice(
        "warning: server.max_examples is not set, and sites may have data of their "
        "own: a client may claim as many examples as the server has, " +
        std::to_string(job_.plan.examples_max));
  }
  printer_.detail("run directory " + directory_.path() + ", " +
                  std::to_string(job_.plan.layout.size()) + " trainable parameters, " +
                  std::to_string(job_.learners->count_max()) + " worker threads");
  for (const data::Dataset* part : {job_.data.train.get(), job_.data.test.get()}) {
    for (const std::string& note : part->info().notes) printer_.notice(note);
  }
  // Clients that do not answer cost a server nothing, and a simulation the work of all others.
  constexpr std::int64_t kSimulatedAttempts = 10;
  if (role == "simulate") {
    job_.plan.attempts_max = std::min(job_.plan.attempts_max, kSimulatedAttempts);
  }
  keeper_.start(*method_);
  context_.first_round = keeper_.round() + 1;
  context_.first_attempt = keeper_.attempt();
}

void ServerRun::on_interrupt(std::function<void()> action) {
  const std::scoped_lock lock(interrupt_mutex_);
  interrupt_ = std::move(action);
  if (keeper_.stopping() && interrupt_) interrupt_();
}

talk::Task<void> ServerRun::conversation(talk::Endpoint& net) {
  if (keeper_.stopping()) co_return;
  co_await method_->run(net, context_);
}

std::string ServerRun::status(std::exception_ptr error) const {
  if (signals_.caught() != 0) return "interrupted";
  if (!error) return keeper_.over_budget() ? "budget" : "done";
  try {
    std::rethrow_exception(error);
  } catch (const QuorumError&) {
    return "quorum";
  } catch (...) {
    return "failed";
  }
}

int ServerRun::finish(const std::string& how, std::exception_ptr error) {
  on_interrupt({});
  std::string reason;
  if (error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& exception) {
      reason = exception.what();
    }
  }
  const std::optional<Budget::Reason> spent =
      how == "budget" ? keeper_.over_budget() : std::nullopt;
  keeper_.end(how, spent ? spent->text : how == "interrupted" ? "" : reason);
  end_();
  if (spent) {
    printer_.notice("ended after round " + std::to_string(keeper_.round()) + ": " + spent->text);
    return spent->time ? kShortfall : kDone;
  }
  if (how == "interrupted") {
    printer_.notice("interrupted after round " + std::to_string(keeper_.round()) + " of " +
                    std::to_string(job_.plan.rounds) + "; go on with: fedctl " + role_ +
                    " --config " + directory_.file("experiment.yaml") + " --run-dir " +
                    directory_.path() + " --resume");
    return 128 + signals_.caught();
  }
  if (error) std::rethrow_exception(error);
  return kDone;
}

}  // namespace fedctl::run
