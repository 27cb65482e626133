// What the engine costs over the bare training loop, in one process: the same clients train the
// same steps, first by learn::train alone, one worker a thread and nothing else, then as a whole
// run of `fedctl simulate` (sampling, codecs, frames, aggregation, checkpoint, journal; no
// evaluation).
//   engine_bench CONFIG THREADS REPEATS [KEY=VALUE...]
// Prints a JSON line: milliseconds a round of both (minimum, median, maximum over the repeats), on
// the wall and of processor time, their ratios, client updates and examples a second. `rounds` of
// the file are measured, the first apart.
#include <fcntl.h>
#include <sys/resource.h>
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

// A moment on the wall, and by the processor time of this process.
struct Moment {
  double wall = 0, cpu = 0;
  static Moment now() {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto of = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return {std::chrono::duration<double>(Clock::now().time_since_epoch()).count(),
            of(used.ru_utime) + of(used.ru_stime)};
  }
  Moment operator-(const Moment& other) const { return {wall - other.wall, cpu - other.cpu}; }
  Moment operator+(const Moment& other) const { return {wall + other.wall, cpu + other.cpu}; }
  Moment operator/(double by) const { return {wall / by, cpu / by}; }
};

// The cohort that the run draws when everyone is there.
std::vector<talk::PeerId> cohort_of(const run::Job& job, std::int64_t round) {
  std::vector<talk::PeerId> all(static_cast<std::size_t>(job.plan.clients));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<talk::PeerId>(i);
  return methods::sample_cohort(job.plan, job.plan.per_round,
                                job.rng().stream("server").stream("sampling", round), all);
}

// Trains a round's clients, those with the most examples first; returns the time, and adds the
// examples that were gone through.
Moment bare_round(run::Job& job, std::int64_t round, std::size_t threads, std::int64_t& examples) {
  std::vector<talk::PeerId> cohort = cohort_of(job, round);
  const auto share = [&](talk::PeerId id) -> const std::vector<std::size_t>& {
    return job.shares[static_cast<std::size_t>(id)].train;
  };
  std::ranges::stable_sort(
      cohort, [&](talk::PeerId a, talk::PeerId b) { return share(a).size() > share(b).size(); });
  std::atomic<std::size_t> next = 0;
  std::atomic<std::int64_t> steps = 0;
  const Moment start = Moment::now();
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
  return Moment::now() - start;
}

// A whole run in a folder of its own: on the wall, the mean of all rounds but the first, without
// evaluation; processor time of everything.
Moment whole_run(const config::Source& source, std::size_t threads) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("engine-bench-" + std::to_string(::getpid())))
          .string();
  run::RunOptions options;
  options.source = source;
  options.run_dir = folder;
  options.output.quiet = true;
  options.output.format = run::Format::json;
  options.threads = static_cast<std::int64_t>(threads);
  std::filesystem::remove_all(folder);
  std::fflush(stdout);
  const int own = ::dup(STDOUT_FILENO), none = ::open("/dev/null", O_WRONLY);
  ::dup2(none, STDOUT_FILENO);
  const Moment start = Moment::now();
  run::simulate(options);
  Moment spent = Moment::now() - start;
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
    if (event.contains("evaluate_ms")) ms -= event["evaluate_ms"].get<double>();
    ++rounds;
  }
  std::filesystem::remove_all(folder);
  spent.wall = rounds > 0 ? ms * 1e-3 / rounds : 0;
  return spent;
}

// A round of it: processor time without what a run of one round takes.
Moment engine_round(config::Source source, std::size_t threads, std::int64_t rounds) {
  Moment all = whole_run(source, threads);
  source.overrides.emplace_back("rounds", "1");
  all.cpu = (all.cpu - whole_run(source, threads).cpu) / static_cast<double>(rounds - 1);
  return all;
}

// Minimum, median, maximum.
std::vector<double> spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  return {values.front(), values[values.size() / 2], values.back()};
}
double median_of(const std::vector<double>& values) { return spread_of(values)[1]; }

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
    std::vector<Moment> bare, engine;
    const std::int64_t rounds = job.plan.rounds - 1;
    examples = 0;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      Moment sum;
      for (std::int64_t round = 2; round <= job.plan.rounds; ++round) {
        sum = sum + bare_round(job, round, threads, examples);
      }
      bare.push_back(sum / static_cast<double>(rounds));
      engine.push_back(engine_round(source, threads, job.plan.rounds));
    }
    nlohmann::ordered_json line;
    line["config"] = job.experiment.name;
    line["threads"] = threads;
    const auto cohort = static_cast<double>(job.plan.per_round);
    const double each = static_cast<double>(examples) / static_cast<double>(rounds * repeats);
    for (const auto& [name, member] : {std::pair("wall", &Moment::wall), {"cpu", &Moment::cpu}}) {
      std::vector<double> bare_s, engine_s, ratio;
      for (std::size_t i = 0; i < bare.size(); ++i) {
        bare_s.push_back(bare[i].*member * 1e3);
        engine_s.push_back(engine[i].*member * 1e3);
        ratio.push_back(bare_s.back() / engine_s.back());
      }
      const double whole = median_of(engine_s), alone = median_of(bare_s);
      line[name] = {{"bare_ms", spread_of(bare_s)},
                    {"engine_ms", spread_of(engine_s)},
                    {"bare_over_engine", spread_of(ratio)},
                    {"overhead_us_a_client", (whole - alone) / cohort * 1e3},
                    {"updates_per_s", cohort / whole * 1e3},
                    {"bare_updates_per_s", cohort / alone * 1e3},
                    {"examples_per_s", each / whole * 1e3}};
    }
    std::printf("%s\n", line.dump().c_str());
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
    return 1;
  }
}
