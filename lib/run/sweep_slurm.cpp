// Runs of a sweep as one job array: task i computes run i with `fedctl sweep --cell i`.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>

#include "base/errors.hpp"
#include "run/process.hpp"
#include "run/signals.hpp"
#include "run/sweep_executors.hpp"

namespace fedctl::run {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

// Between questions to the queue: the first minute, and later.
constexpr auto kAskFirst = seconds(2), kAskLater = seconds(15), kFirst = seconds(60);

// Left in the sweep's folder.
constexpr const char* kScriptName = "array.sbatch";
constexpr const char* kJobName = "slurm.job";

// "0,3-5": the runs as sbatch --array takes them.
std::string array_text(const std::vector<std::size_t>& runs) {
  std::string text;
  for (std::size_t i = 0; i < runs.size();) {
    std::size_t last = i;
    while (last + 1 < runs.size() && runs[last + 1] == runs[last] + 1) ++last;
    text += (i == 0 ? "" : ",") + std::to_string(runs[i]);
    if (last > i) text += '-' + std::to_string(runs[last]);
    i = last + 1;
  }
  return text;
}

std::string directive(const std::string& text) {
  if (text.find('\n') != std::string::npos || !text.starts_with("--")) {
    throw ConfigError("executor: \"" + text + "\" is not an option of sbatch",
                      "one line that begins with --");
  }
  return "#SBATCH " + text + '\n';
}

// The job of an array that was submitted before, or "".
std::string job_of(const std::string& folder) {
  const std::string path = folder + '/' + kJobName;
  if (!std::filesystem::exists(path)) return "";
  const Bytes bytes = read_file(path);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string job = text.substr(0, text.find('\n'));
  return job.find_first_not_of("0123456789") == std::string::npos ? job : "";
}

// Tasks that the queue still has.
std::size_t tasks_left(const std::string& job) {
  const Printed printed =
      run_command({"squeue", "--noheader", "--array", "--format=%i", "--jobs=" + job});
  if (printed.status != 0) {
    // The controller has forgotten it.
    if (printed.err.find("Invalid job id") != std::string::npos) return 0;
    throw ConfigError("squeue: " + printed.err.substr(0, printed.err.find('\n')),
                      "is the controller up? the array goes on without this process");
  }
  return static_cast<std::size_t>(std::ranges::count(printed.out, '\n'));
}

std::string submit(const Sweep& sweep, const std::vector<std::size_t>& runs) {
  const std::string script = sweep.folder + '/' + kScriptName;
  const std::string text = array_script(sweep, runs);
  std::filesystem::create_directories(sweep.folder + "/slurm");
  write_atomically(script, as_bytes_of(std::string_view(text)));
  const Printed printed =
      run_command({"sbatch", "--parsable", "--output=" + sweep.folder + "/slurm/%a.log", script});
  if (printed.status != 0) {
    throw ConfigError("sbatch: " + printed.err.substr(0, printed.err.find('\n')),
                      "the script is " + script);
  }
  // "12" or "12;cluster".
  const std::string job = printed.out.substr(0, printed.out.find_first_of(";\n"));
  write_atomically(sweep.folder + '/' + kJobName, as_bytes_of(std::string_view(job + '\n')));
  return job;
}

// Sleeps until a signal comes.
class Pause {
 public:
  void stop() {
    const std::scoped_lock lock(mutex_);
    stopped_ = true;
    wake_.notify_all();
  }
  // Whether there was one.
  bool wait(seconds longest) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, longest, [this] { return stopped_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
};

void read_again(const Sweep& sweep, std::vector<Outcome>& outcomes) {
  for (std::size_t run = 0; run < outcomes.size(); ++run) {
    if (outcomes[run].state != Outcome::State::done) {
      outcomes[run] = read_outcome(sweep.directory_of(run), sweep.metric);
    }
  }
}

// Returns the signal that came before the array's end, or 0.
int wait_for(const std::string& job, std::size_t tasks, Printer& printer) {
  Pause pause;
  const Signals signals([&pause] { pause.stop(); });
  const steady_clock::time_point begin = steady_clock::now();
  while (const std::size_t left = tasks_left(job)) {
    printer.progress("job " + job + ": " + std::to_string(tasks - std::min(tasks, left)) + " of " +
                     std::to_string(tasks) + " tasks have ended");
    if (pause.wait(steady_clock::now() - begin < kFirst ? kAskFirst : kAskLater)) {
      printer.notice("job " + job + " goes on in the queue; scancel " + job + " ends it");
      break;
    }
  }
  return signals.caught();
}

}  // namespace

std::string array_script(const Sweep& sweep, const std::vector<std::size_t>& runs) {
  const auto& options = sweep.executor.as<SlurmExecutor>();
  std::string script = "#!/usr/bin/env bash\n";
  script += directive("--job-name=" + sweep.name);
  const std::string limit = options.at_once == 0 ? "" : '%' + std::to_string(options.at_once);
  script += directive("--array=" + array_text(runs) + limit);
  script += directive("--cpus-per-task=" + std::to_string(options.cpus));
  script += directive("--time=" + options.time);
  if (!options.partition.empty()) script += directive("--partition=" + options.partition);
  script += "#SBATCH --ntasks=1 --requeue --open-mode=append --signal=B:USR1@60\n";
  for (const std::string& text : options.extra) script += directive(text);
  const auto absolute = [](const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
  };
  script += "cd " + shell_text({std::filesystem::current_path().string()}) + " || exit 1\n";
  script += shell_text({own_program(), "sweep", absolute(sweep.file), "--run-dir",
                        absolute(sweep.folder), "--digest", sweep.digest(), "--threads",
                        std::to_string(options.cpus), "--cell"}) +
            " \"$SLURM_ARRAY_TASK_ID\" &\nrun=$!\n";
  script +=
      "# Time is nearly up: the run stops at its last round and waits for more in the queue.\n"
      "again() {\n"
      "  kill -TERM \"$run\"\n"
      "  wait \"$run\" && exit 0\n"
      "  scontrol requeue \"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"\n"
      "  exit 0\n"
      "}\n"
      "trap again USR1\n"
      "wait \"$run\"\n";
  return script;
}

Execution run_slurm(const Sweep& sweep, const std::vector<std::size_t>& runs,
                    std::vector<Outcome>& outcomes, Printer& printer) {
  const bool wait = sweep.executor.as<SlurmExecutor>().wait;
  const std::string before = job_of(sweep.folder);
  std::vector<std::size_t> left = runs;
  if (!before.empty() && tasks_left(before) > 0) {
    printer.notice("job " + before + " computes runs of this folder");
    if (!wait) return {.ended = false};
    if (const int signal = wait_for(before, tasks_left(before), printer)) {
      return {.signal = signal, .ended = false};
    }
    read_again(sweep, outcomes);
    std::erase_if(left, [&](std::size_t run) {
      return outcomes[run].state == Outcome::State::done ||
             outcomes[run].state == Outcome::State::failed;
    });
    if (left.empty()) return {};
  }
  const std::string job = submit(sweep, left);
  printer.notice("submitted job " + job + " with " + std::to_string(left.size()) + " tasks");
  if (!wait) return {.ended = false};
  if (const int signal = wait_for(job, left.size(), printer)) {
    return {.signal = signal, .ended = false};
  }
  read_again(sweep, outcomes);
  return {};
}

}  // namespace fedctl::run
