#include "run/keeper.hpp"

#include <algorithm>
#include <cmath>

#include "base/digest.hpp"
#include "base/floats.hpp"
#include "run/client_memory.hpp"
#include "run/crossings.hpp"

namespace fedctl::run {
namespace {

using Clock = std::chrono::steady_clock;
using methods::RoundReport;
using talk::Message;

bool is_finite(double value) { return std::isfinite(value); }
// A machine that was put to sleep may wake up with an earlier clock.
double ms_since(Clock::time_point start) { return std::max(0.0, to_ms(Clock::now() - start)); }

// The method's own state beside the keeper's, under a prefix.
constexpr const char* kMethodPrefix = "method/";
// Parts of the checkpoint.
constexpr const char* kBudget = "budget";
constexpr const char* kStragglers = "stragglers";
constexpr const char* kAttempted = "attempted";

// A checkpoint that cannot be read back is none.
void require_readable(const Message& state) {
  for (const auto& [name, tensor] : state.tensors) {
    const bool finite = tensor.dtype == DType::f32   ? !first_not_finite(tensor.f32())
                        : tensor.dtype == DType::f64 ? std::ranges::all_of(tensor.f64(), &is_finite)
                                                     : true;
    if (finite) continue;
    throw Error("the method's \"" + name + "\" is not finite: nothing of the round is kept",
                "--resume goes on from the round before; --set server.max_update_norm=X bounds "
                "what an update can do");
  }
}

}  // namespace

Keeper::Keeper(Job& job, RunDirectory& directory, journal::Journal& journal, talk::Ledger& ledger,
               Printer& printer, methods::Stragglers& stragglers)
    : job_(job),
      directory_(directory),
      journal_(journal),
      ledger_(ledger),
      printer_(printer),
      stragglers_(stragglers),
      weights_(job.plan.initial),
      boundary_(Clock::now()),
      budget_(job.experiment.budget) {}

std::optional<Quality> Keeper::evaluate(const RoundReport& report) {
  const Experiment& experiment = job_.experiment;
  if (experiment.evaluate.on == "clients") {
    return pooled(report.client_scores, job_.data.train->info().task);
  }
  const bool due = round_ % experiment.evaluate.every == 0 || round_ == experiment.rounds;
  return due ? std::optional(measure(job_, weights_)) : std::nullopt;
}

void Keeper::judge(const Quality& quality) {
  const EvaluateOptions& options = job_.experiment.evaluate;
  const double score = score_of(quality, options.best, job_.data.train->info().task);
  // Clients score the weights their round began with.
  const bool by_clients = options.on == "clients";
  const std::span<const float> weights = by_clients ? previous_ : weights_;
  const std::int64_t round = by_clients ? round_ - 1 : round_;
  // No score beats none, and any number beats NaN.
  if (!best_ || (!std::isnan(score) && !(score <= *best_))) {
    best_ = score;
    best_round_ = round;
    save_adapter("best", weights, round);
  }
  if (!bar_ || (!std::isnan(score) && !(score <= *bar_ + options.min_delta))) {
    bar_ = score;
    stale_ = 0;
  } else {
    ++stale_;
  }
  if (options.patience > 0 && stale_ >= options.patience) out_of_patience_ = true;
}

void Keeper::check_budget() {
  if (round_ >= job_.experiment.rounds) return;
  over_budget_reason_ = budget_.next_exceeds();
  over_budget_ = over_budget_reason_.has_value();
}

void Keeper::require_finite(std::int64_t round) {
  const auto bad = first_not_finite(weights_);
  if (!bad) return;
  const std::string value = std::to_string(weights_[*bad]);
  weights_ = job_.plan.initial;
  if (const auto kept = directory_.load_checkpoint()) {
    const Shape shape{static_cast<std::int64_t>(weights_.size())};
    const auto saved = wire::Expect(kept->state, "checkpoint").f32("weights", shape);
    weights_.assign(saved.begin(), saved.end());
  }
  throw Error("round " + std::to_string(round) + ": weight " + std::to_string(*bad) + " would be " +
                  value + ": nothing of the round is kept",
              "--resume goes on from round " + std::to_string(round_) +
                  "; with --set server.max_update_norm=X it uses no longer updates; if the "
                  "server's own steps are too long, another run with a smaller learning rate");
}

void Keeper::journal_clients(const std::map<talk::PeerId, talk::Crossing>& by_peer,
                             const RoundReport& report) {
  std::map<talk::PeerId, talk::Crossing> all = by_peer;
  for (const auto& [peer, digest] : report.digests) all.try_emplace(peer);  // came earlier
  for (const auto& [peer, crossing] : all) {
    if (peer < 0) continue;
    journal::Event event("client");
    event.about(peer).set("bytes_up", crossing.up.sum()).set("bytes_down", crossing.down.sum());
    std::string digests;
    const auto [first, last] = report.digests.equal_range(peer);
    for (auto at = first; at != last; ++at) digests += (at == first ? "" : " ") + at->second;
    if (!digests.empty()) event.set("digest", digests);
    journal_.write(report.round, event);
  }
}

void Keeper::start(methods::ServerMethod& method) {
  const Experiment& experiment = job_.experiment;
  if (directory_.resumed()) {
    load_checkpoint(method);
    journal_.write(round_, journal::Event("resume"));
    boundary_ = Clock::now();
    return;
  }
  directory_.write("experiment.yaml", config::write(job_.experiment));
  run_number_ = random_number();
  journal::Event event("start");
  event.set("method", experiment.method.kind)
      .set("model", experiment.model.kind)
      .set("adapter", experiment.adapter.kind)
      .set("data", experiment.data.kind)
      .set("seed", experiment.seed)
      .set("rounds", experiment.rounds)
      .set("parameters", weights_.size())
      .set("plan", job_.digests.plan)
      .set("base", job_.digests.base);
  if (const methods::SecurePlan& secure = job_.plan.secure; secure.on) {
    const std::size_t neighbours =
        secure.neighbours_of(static_cast<std::size_t>(job_.plan.per_round));
    event.set("neighbours", neighbours).set("threshold", secure.threshold_of(neighbours));
  }
  journal_.write(std::nullopt, event);
  commit(RoundReport{}, method);
}

std::map<talk::PeerId, talk::Crossing> Keeper::take_bytes() {
  std::map<talk::PeerId, talk::Crossing> bytes = std::exchange(attempted_, {});
  for (const auto& [peer, crossing] : ledger_.take()) {
    bytes[peer].up += crossing.up;
    bytes[peer].down += crossing.down;
  }
  return bytes;
}

void Keeper::waiting(std::int64_t present, std::int64_t needed) {
  if (std::exchange(last_present_, present) == present) return;
  printer_.notice("round " + std::to_string(round_ + 1) +
                  " waits for clients: " + std::to_string(present) + " of the " +
                  std::to_string(needed) + " that it needs are here");
}

void Keeper::tell(const Shortage& shortage) {
  journal_.write(round_ + 1, journal::Event("retry")
                                 .set("attempt", shortage.attempt)
                                 .set("reason", shortage.why)
                                 .set("clients", shortage.report.clients)
                                 .set("replied", shortage.report.replied)
                                 .set("lost", shortage.report.lost)
                                 .set("rejected", shortage.report.rejected));
  if (!shortage.ends) printer_.notice(shortage.why + "; trying again");
}

void Keeper::lacking(const Shortage& shortage) {
  tell(shortage);
  if (shortage.ends && hooks_.ends) hooks_.ends();
}

void Keeper::retry(const Shortage& shortage, const methods::ServerMethod& method) {
  attempt_ = shortage.attempt;
  attempted_ = take_bytes();
  tell(shortage);
  save_checkpoint(method);
  if (hooks_.begin) hooks_.begin(round_ + 1, attempt_);
}

bool Keeper::commit(const RoundReport& report, const methods::ServerMethod& method) {
  require_finite(report.round);
  round_ = report.round;
  attempt_ = 0;
  last_present_ = -1;
  const Experiment& experiment = job_.experiment;
  const std::optional<Quality> quality = evaluate(report);

  // Round 0 has no bytes: clients that have joined by then count in round 1.
  std::map<talk::PeerId, talk::Crossing> by_peer;
  if (round_ > 0) by_peer = take_bytes();
  const talk::Crossing bytes = talk::total(by_peer);
  bytes_up_total_ += bytes.up.sum();
  bytes_down_total_ += bytes.down.sum();
  if (experiment.log.clients) journal_clients(by_peer, report);

  if (quality) judge(*quality);
  if (experiment.evaluate.on == "clients") previous_ = weights_;
  const double round_ms = ms_since(boundary_);
  boundary_ = Clock::now();
  if (round_ > 0) budget_.add(by_peer, round_ms / 1e3);
  check_budget();
  line_ = journal_.format(round_, round_event(report, quality, bytes, round_ms));
  save_checkpoint(method);
  journal_.append(line_);
  if (hooks_.begin && round_ < experiment.rounds) hooks_.begin(round_ + 1, attempt_);

  Row row;
  row.round = round_;
  row.rounds = experiment.rounds;
  row.evaluated = quality.has_value();
  if (quality) {
    row.loss = quality->loss;
    row.has_accuracy = quality->accuracy.has_value();
    row.accuracy = quality->accuracy.value_or(0);
  }
  row.train_loss = report.train_loss;
  row.clients = report.clients;
  row.replied = report.replied;
  row.bytes_up = bytes.up.sum();
  row.bytes_down = bytes.down.sum();
  row.round_ms = round_ms;
  printer_.round(row, line_);
  if (out_of_patience_) {
    printer_.notice("stopped early: " + std::to_string(stale_) +
                    " evaluations without improvement; the best model is that of round " +
                    std::to_string(best_round_));
  }
  return !stopping();
}

void Keeper::save_adapter(const std::string& name, std::span<const float> weights,
                          std::int64_t round) {
  learn::save_adapter(job_.adapter_files(), job_.plan.layout, weights,
                      directory_.file("adapter/" + name),
                      {{"run", job_.experiment.name},
                       {"round", std::to_string(round)},
                       {"digest", digest_of(as_bytes_of(weights))},
                       {"base", job_.digests.base}});
  std::string sums;
  for (const std::string& file : files_of(directory_.file("adapter/" + name))) {
    sums +=
        digest_of(read_file(directory_.file("adapter/" + name + '/' + file))) + "  " + file + '\n';
  }
  directory_.write("adapter/" + name + '/' + kSumsName, sums);
}

void Keeper::save_checkpoint(const methods::ServerMethod& method) {
  Message state = Message("checkpoint")
                      .with("round", round_)
                      .with("attempt", attempt_)
                      .with("plan", job_.digests.plan)
                      .with("line", line_)
                      .with("bytes_up_total", static_cast<std::int64_t>(bytes_up_total_))
                      .with("bytes_down_total", static_cast<std::int64_t>(bytes_down_total_))
                      .with("best_round", best_round_)
                      .with("stale", stale_)
                      .with("run", run_number_)
                      .with("weights", Tensor::of(weights_, {}));
  // A score that is not finite is worth no more than none, and none can be read back.
  if (best_ && std::isfinite(*best_)) state.scalars.emplace("best", *best_);
  if (bar_ && std::isfinite(*bar_)) state.scalars.emplace("bar", *bar_);
  Message inner = method.save();
  require_readable(inner);
  for (auto& [name, value] : inner.scalars) state.scalars.emplace(kMethodPrefix + name, value);
  for (auto& [name, value] : inner.tensors)
    state.tensors.emplace(kMethodPrefix + name, std::move(value));
  Parts parts = hooks_.parts ? hooks_.parts() : Parts{};
  parts.emplace(kBudget, budget_.save());
  parts.emplace(kStragglers, stragglers_.save());
  if (!attempted_.empty()) parts.emplace(kAttempted, saved_crossings(attempted_));
  directory_.save_checkpoint(round_, state, parts);
}

void Keeper::load_checkpoint(methods::ServerMethod& method) {
  std::optional<RunDirectory::Checkpoint> found = directory_.load_checkpoint();
  if (!found) throw RunDirectoryError(directory_.path() + ": no checkpoint", "--fresh starts anew");
  const Message* const state = &found->state;
  parts_ = std::move(found->parts);
  if (const auto saved = parts_.find(kStragglers); saved != parts_.end()) {
    stragglers_.load(saved->second);
  }
  if (const auto budget = parts_.find(kBudget); budget != parts_.end()) {
    budget_.load(budget->second);
  }
  if (const auto bytes = parts_.find(kAttempted); bytes != parts_.end()) {
    attempted_ = crossings_in(bytes->second);
  }
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  const wire::Expect fields(*state, "checkpoint");
  const std::string file = directory_.file("experiment.yaml");
  if (fields.text("plan") != job_.digests.plan) {
    throw ConfigError(directory_.path() + ": holds a run of another experiment: " +
                          differences(read_experiment(config::read_source(file)), job_.experiment),
                      "--resume --config " + file +
                          " goes on with that one, --fresh discards it, "
                          "--run-dir goes elsewhere");
  }
  directory_.write("experiment.yaml", config::write(job_.experiment));
  round_ = fields.integer("round", 0, kMax);
  attempt_ = fields.integer("attempt", 0, methods::kAttemptsMax);
  line_ = fields.text("line");
  bytes_up_total_ = static_cast<std::uint64_t>(fields.integer("bytes_up_total", 0, kMax));
  bytes_down_total_ = static_cast<std::uint64_t>(fields.integer("bytes_down_total", 0, kMax));
  best_round_ = fields.integer("best_round", 0, kMax);
  run_number_ = fields.integer("run", 0, kMax);
  if (state->scalars.contains("best")) best_ = fields.real("best");
  if (state->scalars.contains("bar")) bar_ = fields.real("bar");
  if (state->scalars.contains("stale")) stale_ = fields.integer("stale", 0, kMax);
  const std::int64_t patience = job_.experiment.evaluate.patience;
  out_of_patience_ = patience > 0 && stale_ >= patience;
  const auto saved = fields.f32("weights", {static_cast<std::int64_t>(weights_.size())});
  weights_.assign(saved.begin(), saved.end());
  check_budget();
  previous_ = weights_;
  const std::string prefix = kMethodPrefix;
  Message inner("state");
  for (const auto& [name, value] : state->scalars) {
    if (name.starts_with(prefix)) inner.scalars.emplace(name.substr(prefix.size()), value);
  }
  for (const auto& [name, value] : state->tensors) {
    if (name.starts_with(prefix)) inner.tensors.emplace(name.substr(prefix.size()), value);
  }
  method.load(inner);
  // Killed between checkpoint and journal: the line is in the checkpoint.
  if (journal::last_round(directory_.file("journal.jsonl")).value_or(-1) < round_) {
    journal_.append(line_);
  }
}

void Keeper::end(const std::string& status, const std::string& reason) {
  save_adapter("last", weights_, round_);
  const talk::Crossing rest = talk::total(take_bytes());
  journal::Event event("end");
  event.set("status", status);
  if (!reason.empty()) {
    event.set("reason", reason);
  } else if (status == "done" && out_of_patience_) {
    event.set("reason", std::string("early stop"));
  }
  event.set("best_round", best_round_)
      .set("bytes_up_total", bytes_up_total_ + rest.up.sum())
      .set("bytes_down_total", bytes_down_total_ + rest.down.sum());
  journal_.write(round_, event);
  journal_.sync();
}

}  // namespace fedctl::run
