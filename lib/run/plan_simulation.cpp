// `fedctl plan`: what a simulation takes here. Part of a round is played and measured, on as many
// workers as the run would have; the rest follows by counting.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/clock.hpp"
#include "base/digest.hpp"
#include "base/limits.hpp"
#include "run/client_memory.hpp"
#include "run/plan.hpp"
#include "run/trial.hpp"

namespace fedctl::run {
namespace {

using Clock = std::chrono::steady_clock;

// Clients that play a round of their own; what is measured takes about so long.
constexpr std::int64_t kClientsMin = 4, kClientsMax = 256;
constexpr double kPlayS = 3;
constexpr std::int64_t kRounds = 3;  // the first touches memory for the first time

double seconds_since(Clock::time_point start) { return to_ms(Clock::now() - start) * 1e-3; }

// The most that this process has held so far.
std::uint64_t peak_bytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) << 10;
  }
  return 0;
}

double mean_steps(const Job& job, std::size_t clients, const learn::TrainOptions& train) {
  double steps = 0;
  for (std::size_t id = 0; id < clients; ++id) {
    steps += static_cast<double>(learn::steps_of(train, job.shares[id].train.size()));
  }
  return steps / static_cast<double>(clients);
}

// Seconds of one client's part in a round, if one follows the other on all workers.
double client_s(Job& job, std::int64_t clients, std::int64_t steps_max) {
  methods::JobPlan plan = job.plan;
  plan.rounds = kRounds;
  plan.clients = plan.per_round = clients;
  plan.quorum = 1;
  const auto all = static_cast<std::size_t>(job.plan.clients);
  const double whole = mean_steps(job, all, plan.train);
  if (whole > static_cast<double>(steps_max)) plan.train.steps = steps_max;
  const std::vector<TrialRound> rounds = trial(job, plan, *job.learners);
  double least = rounds.back().wall_s;
  for (std::size_t i = 1; i < rounds.size(); ++i) least = std::min(least, rounds[i].wall_s);
  const double played = mean_steps(job, static_cast<std::size_t>(clients), plan.train);
  return least / static_cast<double>(clients) * whole / played;
}

// What the server does alone at the end of a round.
double commit_s(const Job& job) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("fedctl-plan-" + std::to_string(random_number())))
          .string();
  const auto start = Clock::now();
  const auto state = wire::Message("checkpoint").with("weights", Tensor::of(job.plan.initial, {}));
  write_atomically(path, encode_parts(state, {}));
  digest_of(as_bytes_of(std::span<const float>(job.plan.initial)));
  const double took = seconds_since(start);
  std::filesystem::remove(path);
  return took;
}

double evaluate_s(Job& job) {
  const std::vector<std::size_t> all = job.test_indices();
  if (all.empty() || job.experiment.evaluate.on == "clients") return 0;
  const auto size = static_cast<std::size_t>(job.experiment.evaluate.batch_size);
  std::size_t count = std::min(all.size(), size * job.learners->count_max());
  double took = 0;
  while (true) {
    const auto start = Clock::now();
    learn::evaluate(*job.learners, job.plan.initial, job.test_set(), std::span(all).first(count),
                    size);
    took = seconds_since(start);
    if (count == all.size() || took > kPlayS / 6) break;
    count = std::min(all.size(), 2 * count);
  }
  return took * static_cast<double>(all.size()) / static_cast<double>(count);
}

}  // namespace

Simulation measure_simulation(Job& job, double start_s) {
  Simulation found;
  found.start_s = start_s;
  found.rounds = job.plan.rounds;
  const Experiment& experiment = job.experiment;
  const std::int64_t every = experiment.evaluate.every;
  found.evaluations = 1 + found.rounds / every + (found.rounds % every == 0 ? 0 : 1);
  found.evaluate_s = evaluate_s(job);
  found.commit_s = commit_s(job);

  // A first guess says how many clients and steps can be played.
  const auto workers = static_cast<std::int64_t>(job.learners->count_max());
  const std::int64_t few = std::min({std::max(kClientsMin, workers), job.plan.per_round});
  const double steps = mean_steps(job, static_cast<std::size_t>(job.plan.clients), job.plan.train);
  const bool whole = job.method().whole_cohort || job.plan.secure.on;
  const double guess = client_s(job, whole ? job.plan.per_round : few, 1) / steps;  // of a step
  const double budget_steps = kPlayS / kRounds / std::max(guess, 1e-9);
  const auto clients = static_cast<std::int64_t>(
      std::clamp(budget_steps / steps, static_cast<double>(few), static_cast<double>(kClientsMax)));
  const std::int64_t played = whole ? job.plan.per_round : std::min(clients, job.plan.per_round);
  const auto steps_max =
      static_cast<std::int64_t>(std::max(1.0, budget_steps / static_cast<double>(played)));
  found.clients_s = client_s(job, played, steps_max) * static_cast<double>(job.plan.per_round);

  // Updates of those that did not play, as far as they are kept in memory; the keeper's copies.
  const std::uint64_t model = sizeof(float) * job.plan.layout.size();
  const std::uint64_t more = static_cast<std::uint64_t>(job.plan.per_round - played) * model;
  found.peak_memory =
      peak_bytes() + std::min<std::uint64_t>(more, limits::kUnpackedBytesMax) + 3 * model;
  return found;
}

}  // namespace fedctl::run
