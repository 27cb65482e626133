// `fedctl plan`: what a simulation takes here. Part of a round is played and measured, on as many
// workers as the run would have; the rest follows by counting.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "base/clock.hpp"
#include "base/digest.hpp"
#include "base/limits.hpp"
#include "run/client_memory.hpp"
#include "run/plan.hpp"
#include "run/process.hpp"
#include "run/trial.hpp"

namespace fedctl::run {
namespace {

using Clock = std::chrono::steady_clock;

// Clients that play a round of their own; what is measured takes about so long.
constexpr std::int64_t kClientsMin = 4, kClientsMax = 256;
constexpr double kPlayS = 3;
constexpr std::size_t kBatches = 3;  // evaluated by each worker
constexpr std::int64_t kRounds = 3;  // the first touches memory for the first time

double seconds_since(Clock::time_point start) { return to_ms(Clock::now() - start) * 1e-3; }

double mean_steps(const Job& job, std::size_t clients, const learn::TrainOptions& train) {
  double steps = 0;
  for (std::size_t id = 0; id < clients; ++id) {
    steps += static_cast<double>(learn::steps_of(train, job.shares[id].train.size()));
  }
  return steps / static_cast<double>(clients);
}

// Steps on the batches with the most tokens that a cohort draws, on all workers at once: the most
// memory that training takes.
void take_largest_steps(Job& job) {
  using Batch = std::vector<std::size_t>;
  std::vector<std::pair<std::size_t, Batch>> largest;  // by tokens
  const learn::TrainOptions& train = job.plan.train;
  for (std::size_t id = 0; id < static_cast<std::size_t>(job.plan.per_round); ++id) {
    const std::vector<std::size_t>& share = job.shares[id].train;
    const auto steps = static_cast<std::size_t>(learn::steps_of(train, share.size()));
    auto batches = learn::epoch_batches(share, static_cast<std::size_t>(train.batch_size),
                                        job.rng().stream("plan", static_cast<std::int64_t>(id)));
    batches.resize(std::min(batches.size(), steps));
    for (Batch& batch : batches) {
      std::size_t tokens = 0;
      for (const std::size_t index : batch) tokens += job.data.train->length(index);
      largest.emplace_back(tokens, std::move(batch));
    }
    std::ranges::sort(largest, std::greater{});
    largest.resize(std::min(largest.size(), job.learners->count_max()));
  }
  std::vector<std::jthread> workers;
  for (const auto& [tokens, batch] : largest) {
    workers.emplace_back([&job, &batch = batch] {
      learn::LearnerPool::Lease learner = job.learners->acquire();
      std::ranges::copy(job.plan.initial, learner->weights().begin());
      try {
        learner->loss_and_gradient(job.data.train->gather(batch));
      } catch (const Error&) {  // the rounds that are played say it again
      }
    });
  }
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
  const TrialFolder folder(std::filesystem::temp_directory_path());
  const auto start = Clock::now();
  const auto state = wire::Message("checkpoint").with("weights", Tensor::of(job.plan.initial, {}));
  write_atomically(folder.file("checkpoint"), encode_parts(state, {}));
  digest_of(as_bytes_of(std::span<const float>(job.plan.initial)));
  return seconds_since(start);
}

// The batches with the most tokens, some for each worker: they need the most memory, too, and what
// batches of several sizes leave behind.
double evaluate_s(Job& job) {
  if (job.experiment.evaluate.on == "clients") return 0;
  const data::Dataset& data = job.test_set();
  const auto tokens_of = [&data](const std::vector<std::size_t>& batch) {
    std::size_t tokens = 0;
    for (const std::size_t index : batch) tokens += data.length(index);
    return tokens;
  };
  const std::vector<std::size_t> all = job.test_indices();
  const auto size = static_cast<std::size_t>(job.experiment.evaluate.batch_size);
  auto batches = learn::batches_of(all, size);
  if (batches.empty()) return 0;
  std::ranges::stable_sort(batches, std::greater{}, tokens_of);
  batches.resize(std::min(batches.size(), kBatches * job.learners->count_max()));
  std::vector<std::size_t> some;
  for (const auto& batch : batches) some.insert(some.end(), batch.begin(), batch.end());
  double took = 0;
  for (int turn = 0; turn < 2; ++turn) {  // the first touches memory for the first time
    const auto start = Clock::now();
    learn::evaluate(*job.learners, job.plan.initial, data, some, size);
    took = seconds_since(start);
    if (took > kPlayS / 3) break;
  }
  return took * static_cast<double>(tokens_of(all)) / static_cast<double>(tokens_of(some));
}

}  // namespace

std::int64_t evaluations_of(const Job& job) {
  const std::int64_t rounds = job.plan.rounds, every = job.experiment.evaluate.every;
  return 1 + rounds / every + (rounds % every == 0 ? 0 : 1);
}

Simulation measure_simulation(Job& job, double start_s) {
  Simulation found;
  found.start_s = start_s;
  found.rounds = job.plan.rounds;
  found.evaluations = evaluations_of(job);
  found.evaluate_s = evaluate_s(job);
  found.commit_s = commit_s(job);
  if (job.method().needs == "gradients") take_largest_steps(job);

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
      peak_memory_of("self") + std::min<std::uint64_t>(more, limits::kUnpackedBytesMax) + 3 * model;
  return found;
}

}  // namespace fedctl::run
