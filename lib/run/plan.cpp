// `fedctl plan`: the dry run.
#include "run/plan.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "base/clock.hpp"
#include "base/limits.hpp"
#include "run/greeting.hpp"
#include "run/trial.hpp"

namespace fedctl::run {
namespace {

// Where messages differ in size from client to client, their mean counts.
constexpr std::int64_t kTrialClients = 4;
// Where they differ from round to round: so many rounds, so many for each that a client waits for
// its turn, and more while they are cheap: steps times weights of all together.
constexpr std::int64_t kTrialRounds = 8, kTrialTurns = 6;
constexpr double kTrialWork = 5e8;
constexpr std::size_t kClassesMax = 30, kClientsMax = 50;
constexpr std::size_t kCopiesPerWorker = 3;  // weights, gradient, update
// The run's weights, the sum in double, an answer or the mean, and a place between others.
constexpr std::uint64_t kCopiesOfServer = 5;
constexpr std::uint64_t kConnectionBytes = 10'600;  // measured (docs/scale.md)

// Of the process, now.
std::uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t whole = 0, resident = 0;
  in >> whole >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// The second of two, so that no memory is touched for the first time.
double step_time_ms(Job& job) {
  learn::TrainOptions one = job.plan.train;
  one.steps = 1;
  learn::LearnerPool::Lease learner = job.learners->acquire();
  double ms = 0;
  for (int turn = 0; turn < 2; ++turn) {
    std::ranges::copy(job.plan.initial, learner->weights().begin());
    const auto start = std::chrono::steady_clock::now();
    learn::train(*learner, *job.data.train, job.shares[0].train, one, {},
                 job.rng().stream("plan", turn));
    ms = to_ms(std::chrono::steady_clock::now() - start);
  }
  return ms;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.flush();
  if (!out) throw DataError(path + ": cannot be written", "check the folder and its permissions");
}

// Bytes of a client and round.
struct Mean {
  double payload_up = 0, framing_up = 0, payload_down = 0, framing_down = 0;
  double payload_peers = 0, framing_peers = 0;
  void add(const TrialRound& round, double weight) {
    const talk::Crossing& bytes = round.bytes;
    payload_peers += static_cast<double>(round.peers.payload) * weight;
    framing_peers += static_cast<double>(round.peers.framing) * weight;
    payload_up += static_cast<double>(bytes.up.payload) * weight;
    framing_up += static_cast<double>(bytes.up.framing) * weight;
    payload_down += static_cast<double>(bytes.down.payload) * weight;
    framing_down += static_cast<double>(bytes.down.framing) * weight;
  }
};

// All rounds are like the first.
Mean of_one_round(Job& job) {
  methods::JobPlan plan = job.plan;
  plan.rounds = 1;
  plan.clients = plan.per_round = std::min(kTrialClients, job.plan.per_round);
  plan.quorum = 1;
  // Where an update is a vector its size is that of the layout.
  const std::string& payload = job.method().payload;
  if (payload == "linear" || payload == "needs_each_update") plan.train.steps = 1;
  Mean mean;
  mean.add(trial(job, plan, *job.learners)[0], 1 / static_cast<double>(plan.clients));
  return mean;
}

// Messages differ from round to round. The run's own cohorts; the rounds behind are like the last
// half of these. Slopes: as many as there are steps, and more for a client that was away, so
// losses may be any numbers. Without rounds: as many answers to a step as come in its time.
Mean over_rounds(Job& job) {
  methods::JobPlan plan = job.plan;
  const std::int64_t turn = (plan.clients + plan.per_round - 1) / plan.per_round;
  const double round_work =
      static_cast<double>(plan.per_round * std::max<std::int64_t>(1, plan.train.steps)) *
      static_cast<double>(plan.layout.size() + 1000);
  const auto cheap = static_cast<std::int64_t>(kTrialWork / round_work);
  plan.rounds = std::min(plan.rounds, std::max({kTrialRounds, kTrialTurns * turn, cheap}));
  const auto guessers = make_guessers(plan.layout);
  const bool numbers = job.method().needs == "loss" || !job.method().rounds;
  if (!numbers) plan.train.steps = 1;
  const std::vector<TrialRound> rounds = trial(job, plan, numbers ? *guessers : *job.learners);
  const std::size_t half = rounds.size() / 2;
  const double cohorts = static_cast<double>(job.plan.rounds * job.plan.per_round);
  const double more = static_cast<double>(job.plan.rounds - plan.rounds) /
                      static_cast<double>(rounds.size() - half);
  Mean mean;
  for (std::size_t i = 0; i < rounds.size(); ++i) {
    mean.add(rounds[i], (i < half ? 1 : 1 + more) / cohorts);
  }
  return mean;
}

}  // namespace

std::vector<std::size_t> Histogram::totals() const {
  std::vector<std::size_t> totals;
  for (const auto& row : counts) {
    std::size_t sum = 0;
    for (const std::size_t count : row) sum += count;
    totals.push_back(sum);
  }
  return totals;
}

bool Histogram::large() const { return columns() > kClassesMax || counts.size() > kClientsMax; }

Histogram histogram_of(const Job& job) {
  const data::Dataset& train = *job.data.train;
  Histogram histogram;
  histogram.classes = train.info().classes;
  const std::size_t columns = std::max<std::size_t>(1, histogram.classes.size());
  for (const data::Share& share : job.shares) {
    std::vector<std::size_t>& row = histogram.counts.emplace_back(columns);
    for (const std::size_t index : share.train) {
      ++row[histogram.classes.empty() ? 0 : static_cast<std::size_t>(train.label(index))];
    }
  }
  return histogram;
}

std::uint64_t Forecast::peak_memory() const {
  return resident + kCopiesPerWorker * sizeof(float) * trainable * workers;
}

std::uint64_t Forecast::server_memory() const {
  const std::uint64_t model = sizeof(float) * trainable;
  const std::uint64_t answers =
      std::min<std::uint64_t>(static_cast<std::uint64_t>(cohort) * model, limits::kRepliesBytesMax);
  return resident + kCopiesOfServer * model + answers +
         kConnectionBytes * static_cast<std::uint64_t>(clients);
}

double Forecast::transfer_s() const {
  const auto one_way = [this](double bytes, double mbit) {
    return latency_ms * 1e-3 + (mbit > 0 ? bytes * 8e-6 / mbit : 0);
  };
  return one_way(down(), down_mbit) + one_way(up(), up_mbit);
}

double Forecast::train_s() const { return static_cast<double>(steps) * step_ms * 1e-3; }

Forecast forecast(Job& job, std::size_t workers, const std::string& version) {
  Forecast found;
  found.resident = resident_bytes();
  found.workers = workers;
  found.rounds = job.plan.rounds;
  found.clients = job.plan.clients;
  found.cohort = job.plan.per_round;
  found.test_examples = job.test_indices().size();
  found.trainable = job.plan.layout.size();
  found.base = job.learners->acquire()->base_parameters();
  found.histogram = histogram_of(job);
  for (const std::size_t examples : found.histogram.totals())
    found.steps = std::max(found.steps, learn::steps_of(job.plan.train, examples));
  found.step_ms = step_time_ms(job);

  const bool alike = job.method().alike && !job.plan.secure.on;
  const Mean bytes = alike ? of_one_round(job) : over_rounds(job);
  found.payload_up = bytes.payload_up;
  found.framing_up = bytes.framing_up;
  found.payload_down = bytes.payload_down;
  found.framing_down = bytes.framing_down;
  found.payload_peers = bytes.payload_peers;
  found.framing_peers = bytes.framing_peers;
  found.handshake = handshake_of(job, version);
  return found;
}

int plan(const PlanOptions& options) {
  for (const auto& [name, value] :
       {std::pair("--up-mbit", options.up_mbit), std::pair("--down-mbit", options.down_mbit),
        std::pair("--latency-ms", options.latency_ms)}) {
    if (!std::isfinite(value) || value < 0) {
      throw ConfigError(std::string(name) + " is " + std::to_string(value) + ", must be 0 or more",
                        "0 Mbit/s stands for an unlimited link");
    }
  }
  const std::size_t workers = thread_count(options.threads);
  const auto start = std::chrono::steady_clock::now();
  Job job = make_job(read_experiment(options.source), workers);
  const double start_s = to_ms(std::chrono::steady_clock::now() - start) * 1e-3;
  // Before anything is measured: a path that cannot be written costs no time.
  if (!options.write_partition.empty()) {
    write_file(options.write_partition, partition_text(job.shares, job.data.train->size(),
                                                       options.write_partition.ends_with(".json")));
  }
  if (options.hosts > job.plan.clients) {
    throw ConfigError("--hosts is " + std::to_string(options.hosts) + ", but clients.count is " +
                      std::to_string(job.plan.clients));
  }
  Forecast found = forecast(job, workers, options.version);
  found.simulation = measure_simulation(job, start_s);
  if (options.hosts > 0) {
    found.served = measure_server(options, job, workers);
    if (found.served.signal != 0) return 128 + found.served.signal;
  }
  found.up_mbit = options.up_mbit;
  found.down_mbit = options.down_mbit;
  found.latency_ms = options.latency_ms;
  if (!options.svg.empty())
    write_file(options.svg, histogram_svg(found.histogram, job.experiment.name));
  const std::string text = options.output.format == Format::json
                               ? forecast_json(found, job.experiment)
                               : forecast_text(found, job.experiment);
  std::fputs(text.c_str(), stdout);
  return kDone;
}

}  // namespace fedctl::run
