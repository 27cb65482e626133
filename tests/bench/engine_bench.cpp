// What the engine costs over the bare training loop, in one process: the same clients train the same
// steps, first by learn::train alone, one worker a thread and nothing else, then as a whole run of
// `fedctl simulate` (sampling, codecs, frames, aggregation, checkpoint, journal; no evaluation).
//   FEDCTL_MODULE_DIR=build/release/lib/fedctl engine_bench CONFIG THREADS REPEATS [KEY=VALUE...]
// Prints a JSON line: seconds a round of both (median, minimum and maximum over the repeats), their
// ratio, client updates and examples a second. `rounds` of the file are measured, the first apart.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "run/commands.hpp"
#include "run/job.hpp"

using namespace fedctl;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The cohort that the run draws when everyone is there.
std::vector<talk::PeerId> cohort_of(const run::Job& job, std::int64_t round) {
  std::vector<talk::PeerId> all(static_cast<std::size_t>(job.plan.clients));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<talk::PeerId>(i);
  return methods::sample_cohort(job.plan, job.plan.per_round,
                                job.rng().stream("server").stream("sampling", round), all);
}

// Trains a round's clients, those with the most examples first; returns seconds, and adds the
// examples that were gone through.
double bare_round(run::Job& job, std::int64_t round, std::size_t threads, std::int64_t& examples) {
  std::vector<talk::PeerId> cohort = cohort_of(job, round);
  const auto share = [&](talk::PeerId id) -> const std::vector<std::size_t>& {
    return job.shares[static_cast<std::size_t>(id)].train;
  };
  std::ranges::stable_sort(cohort, [&](talk::PeerId a, talk::PeerId b) {
    return share(a).size() > share(b).size();
  });
  std::atomic<std::size_t> next = 0;
  std::atomic<std::int64_t> steps = 0;
  const auto start = Clock::now();
  const auto work = [&] {
    learn::LearnerPool::Lease learner = job.learners->acquire();
    for (std::size_t i = next++; i < cohort.size(); i = next++) {
      std::ranges::copy(job.plan.initial, learner->weights().begin());
      const learn::TrainReport report =
          learn::train(*learner, *job.data.train, share(cohort[i]), job.plan.train, {},
                       job.rng().stream("client", cohort[i]).stream("order", round));
      steps += report.steps;
    }
  };
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  examples += steps * job.plan.train.batch_size;
  return seconds_since(start);
}

// Seconds a round of a whole run: the mean of all but the first.
double engine_round(const config::Source& source, std::size_t threads) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("engine-bench-" + std::to_string(::getpid())))
          .string();
  run::RunOptions options;
  options.source = source;
  options.run_dir = folder;
  options.start = run::Start::create;
  options.output.quiet = true;
  options.output.format = run::Format::json;
  options.threads = static_cast<std::int64_t>(threads);
  std::filesystem::remove_all(folder);
  std::fflush(stdout);
  const int own = ::dup(STDOUT_FILENO), none = ::open("/dev/null", O_WRONLY);
  ::dup2(none, STDOUT_FILENO);
  run::simulate(options);
  std::fflush(stdout);
  ::dup2(own, STDOUT_FILENO);
  ::close(own);
  ::close(none);
  std::ifstream journal(folder + "/journal.jsonl");
  double ms = 0, rounds = 0;
  for (std::string line; std::getline(journal, line);) {
    const auto event = nlohmann::json::parse(line);
    if (event["event"] != "round" || event["round"] < 2) continue;
    ms += event["round_ms"].get<double>();
    ++rounds;
  }
  std::filesystem::remove_all(folder);
  return ms * 1e-3 / rounds;
}

struct Spread {
  double min, median, max;
};
Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  return {values.front(), values[values.size() / 2], values.back()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: engine_bench CONFIG THREADS REPEATS [KEY=VALUE...]\n", stderr);
    return 2;
  }
  try {
    config::Source source = config::read_source(argv[1]);
    const auto threads = static_cast<std::size_t>(std::stoul(argv[2]));
    const int repeats = std::stoi(argv[3]);
    for (int i = 4; i < argc; ++i) {
      const std::string text = argv[i];
      const std::size_t at = text.find('=');
      source.overrides.emplace_back(text.substr(0, at), text.substr(at + 1));
    }
    source.overrides.emplace_back("evaluate.every", "1000000");
    run::Job job = run::make_job(run::read_experiment(source), threads);
    std::int64_t examples = 0;
    bare_round(job, 1, threads, examples);  // memory is touched for the first time
    std::vector<double> bare, engine, ratio;
    std::int64_t rounds = job.plan.rounds - 1;
    examples = 0;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      double sum = 0;
      for (std::int64_t round = 2; round <= job.plan.rounds; ++round) {
        sum += bare_round(job, round, threads, examples);
      }
      bare.push_back(sum / static_cast<double>(rounds));
      engine.push_back(engine_round(source, threads));
      ratio.push_back(bare.back() / engine.back());
    }
    const Spread b = spread_of(bare), e = spread_of(engine), r = spread_of(ratio);
    const double cohort = static_cast<double>(job.plan.per_round);
    const double each = static_cast<double>(examples) / static_cast<double>(rounds * repeats);
    nlohmann::ordered_json line;
    line["config"] = job.experiment.name;
    line["threads"] = threads;
    line["bare_ms"] = {b.min * 1e3, b.median * 1e3, b.max * 1e3};
    line["engine_ms"] = {e.min * 1e3, e.median * 1e3, e.max * 1e3};
    line["bare_over_engine"] = {r.min, r.median, r.max};
    line["overhead_us_a_client"] = (e.median - b.median) / cohort * 1e6;
    line["updates_per_s"] = cohort / e.median;
    line["bare_updates_per_s"] = cohort / b.median;
    line["examples_per_s"] = each / e.median;
    std::printf("%s\n", line.dump().c_str());
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
    return 1;
  }
}
