// `fedctl sweep`: checks every cell, has the runs computed that are not done, writes the table.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>

#include "base/errors.hpp"
#include "run/commands.hpp"
#include "run/job.hpp"
#include "run/process.hpp"
#include "run/sweep_executors.hpp"
#include "run/sweep_table.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;
using State = Outcome::State;

constexpr std::size_t kNamedMax = 10;  // folders in one message

std::vector<Outcome> outcomes_of(const Sweep& sweep) {
  std::vector<Outcome> outcomes;
  for (std::size_t run = 0; run < sweep.run_count(); ++run) {
    outcomes.push_back(read_outcome(sweep.directory_of(run), sweep.metric));
  }
  return outcomes;
}

std::size_t count(const std::vector<Outcome>& outcomes, State state) {
  return static_cast<std::size_t>(std::ranges::count(outcomes, state, &Outcome::state));
}

// Runs of the folder that the sweep file does not have, or not any more.
void name_strangers(const Sweep& sweep, Printer& printer) {
  std::set<std::string> own, others;
  for (std::size_t run = 0; run < sweep.run_count(); ++run) own.insert(sweep.directory_of(run));
  std::error_code absent;
  for (const auto& cell : fs::directory_iterator(sweep.folder, absent)) {
    if (!cell.is_directory()) continue;
    for (const auto& run : fs::directory_iterator(cell, absent)) {
      const std::string path = run.path().string();
      if (fs::exists(path + "/journal.jsonl") && !own.contains(path)) others.insert(path);
    }
  }
  if (others.empty()) return;
  std::string names;
  std::size_t named = 0;
  for (const std::string& path : others) {
    if (++named > kNamedMax) break;
    names += (names.empty() ? "" : ", ") + path;
  }
  printer.notice(std::to_string(others.size()) +
                 " runs here are not of this sweep, and stay as they are: " + names +
                 (others.size() > kNamedMax ? ", ..." : ""));
}

void write_table(const Sweep& sweep, const std::vector<Outcome>& outcomes, Format format) {
  const std::vector<CellRow> rows = rows_of(sweep, outcomes);
  const auto write = [&](const char* name, const std::string& text) {
    write_atomically(sweep.folder + '/' + name, as_bytes_of(std::string_view(text)));
  };
  write("table.csv", table_csv(sweep, rows, outcomes));
  write("runs.csv", runs_csv(sweep, outcomes));
  write("times.csv", times_csv(sweep, rows));
  write("table.md", table_text(sweep, rows, outcomes, true));
  write("plot.svg", table_svg(sweep, rows));
  const bool text =
      format == Format::text || (format == Format::automatic && ::isatty(STDOUT_FILENO) == 1);
  std::fputs(
      (text ? table_text(sweep, rows, outcomes, false) : table_json(sweep, rows, outcomes)).c_str(),
      stdout);
}

// Runs at a time, and threads of each: together no more than there are cores.
struct Share {
  std::size_t jobs = 1, threads = 1;
};
Share share_of(const Sweep& sweep, std::size_t runs, std::int64_t threads_wanted) {
  Share share;
  if (sweep.executor.kind == "local") {
    const auto jobs = static_cast<std::size_t>(sweep.executor.as<LocalExecutor>().jobs);
    share.jobs = std::max<std::size_t>(1, std::min(jobs, runs));
  }
  share.threads = threads_wanted > 0 ? static_cast<std::size_t>(threads_wanted)
                                     : std::max<std::size_t>(1, core_count() / share.jobs);
  return share;
}

int print_commands(const Sweep& sweep, const std::vector<std::size_t>& runs,
                   const std::vector<Outcome>& outcomes, std::size_t threads) {
  if (sweep.executor.kind == "slurm") {
    std::fputs(array_script(sweep, runs).c_str(), stdout);
    return kDone;
  }
  for (const std::size_t run : runs) {
    std::printf("%s\n", shell_text(command_of(sweep, run, outcomes[run].start, threads)).c_str());
  }
  return kDone;
}

// One run by its number, and nothing else: what an array task does.
int compute_one(const Sweep& sweep, const SweepCommand& command, Printer& printer) {
  const auto run = static_cast<std::size_t>(command.run);
  if (!command.digest.empty() && command.digest != sweep.digest()) {
    throw ConfigError(sweep.file +
                          ": the sweep has changed since this task was submitted: its digest "
                          "is " +
                          sweep.digest() + ", the task's " + command.digest,
                      "scancel the array and start the sweep again");
  }
  if (run >= sweep.run_count()) {
    throw ConfigError("--cell is " + std::to_string(run) + ", but there are " +
                      std::to_string(sweep.run_count()) + " runs");
  }
  std::vector<Outcome> outcomes(sweep.run_count());
  outcomes[run] = read_outcome(sweep.directory_of(run), sweep.metric);
  if (outcomes[run].state == State::done) return kDone;
  const std::size_t threads = share_of(sweep, 1, command.threads).threads;
  const Execution execution = run_local(sweep, {run}, 1, threads, outcomes, printer);
  return execution.signal != 0 ? 128 + execution.signal : execution.last_status;
}

Execution execute(const Sweep& sweep, const SweepCommand& command,
                  const std::vector<std::size_t>& runs, std::vector<Outcome>& outcomes,
                  Printer& printer) {
  if (sweep.executor.kind == "slurm") return run_slurm(sweep, runs, outcomes, printer);
  const auto [jobs, threads] = share_of(sweep, runs.size(), command.threads);
  return run_local(sweep, runs, jobs, threads, outcomes, printer);
}

int conclude(const Sweep& sweep, const std::vector<Outcome>& outcomes, Printer& printer) {
  const std::size_t done = count(outcomes, State::done), failed = count(outcomes, State::failed);
  const std::size_t left = outcomes.size() - done - failed;
  printer.notice(std::to_string(done) + " of " + std::to_string(outcomes.size()) +
                 " runs are done" + (failed > 0 ? ", " + std::to_string(failed) + " failed" : "") +
                 (left > 0 ? ", " + std::to_string(left) + " are not" : "") +
                 "; tables and plot: " + sweep.folder + '/');
  if (failed + left > 0) printer.notice("the same command tries again what is not done");
  return failed + left > 0 ? kFailed : kDone;
}

Sweep checked_sweep(const SweepCommand& command, Printer& printer) {
  Sweep sweep = read_sweep(command.source, command.folder);
  if (!command.executor.empty() && command.executor != sweep.executor.kind) {
    sweep.executor = config::make_plugin(executor_kinds(), command.executor);
  }
  for (const std::string& line : check_sweep(sweep, command.environment)) {
    printer.notice("warning: " + line);
  }
  return sweep;
}

}  // namespace

int sweep(const SweepCommand& command) {
  Printer printer(command.output.format, command.output.quiet, command.output.verbose);
  const Sweep sweep = checked_sweep(command, printer);
  if (command.run >= 0) return compute_one(sweep, command, printer);

  std::vector<Outcome> outcomes = outcomes_of(sweep);
  std::vector<std::size_t> runs;
  for (std::size_t run = 0; run < outcomes.size(); ++run) {
    if (outcomes[run].state != State::done) runs.push_back(run);
  }
  if (command.dry_run) {
    return print_commands(sweep, runs, outcomes,
                          share_of(sweep, runs.size(), command.threads).threads);
  }
  create_folder(sweep.folder);
  std::optional<FileLock> lock;  // a look at the table disturbs nobody
  if (!command.table_only) lock.emplace(sweep.folder + "/lock");
  if (lock && !lock->held()) {
    throw RunDirectoryError(sweep.folder + (lock->open() ? ": another fedctl sweep is running here"
                                                         : ": cannot create its lock"),
                            "wait for it, stop it, or choose another --run-dir");
  }
  name_strangers(sweep, printer);
  if (!command.table_only && !runs.empty()) {
    write_atomically(sweep.folder + "/sweep.yaml",
                     as_bytes_of(std::string_view(command.source.text)));
    printer.notice(std::to_string(outcomes.size() - runs.size()) + " of " +
                   std::to_string(outcomes.size()) + " runs are done already");
    const Execution execution = execute(sweep, command, runs, outcomes, printer);
    if (execution.signal != 0) {
      printer.notice("interrupted with " + std::to_string(count(outcomes, State::done)) + " of " +
                     std::to_string(outcomes.size()) + " runs done; the same command goes on");
      return 128 + execution.signal;
    }
    if (!execution.ended) {
      printer.notice("the same command waits for it; --table shows what is done so far");
      return kDone;
    }
  }
  write_table(sweep, outcomes, command.output.format);
  const int status = conclude(sweep, outcomes, printer);
  return command.table_only ? kDone : status;
}

}  // namespace fedctl::run
