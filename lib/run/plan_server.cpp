// `fedctl plan --hosts N`: what a server takes here. Its first rounds are played for real, by
// processes of this program over TCP on loopback; the rest follows by counting.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/clock.hpp"
#include "base/errors.hpp"
#include "config/paths.hpp"
#include "run/plan.hpp"
#include "run/process.hpp"
#include "run/signals.hpp"
#include "run/trial.hpp"

namespace fedctl::run {
namespace {

// At least so many rounds, and so long.
constexpr std::size_t kRoundsMin = 3;
constexpr double kPlayS = 8;
constexpr int kLookMs = 50;  // for the port, and whether a client has died
constexpr const char* kClientsWait = "600";

// Where run directories are: their disk is what a server waits for.
constexpr const char* kRuns = "runs";

double seconds_of(std::int64_t ms) { return static_cast<double>(ms) * 1e-3; }

// Processes of a trial and what they write, gone at destruction.
class Crew {
 public:
  ~Crew() {
    stop(SIGKILL);
    for (const auto& [process, log] : processes_) ::waitpid(process, nullptr, 0);
  }
  Crew() = default;
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  std::string file(const std::string& name) const { return folder_.file(name); }
  pid_t start(std::vector<std::string> words, int output = -1) {
    const std::scoped_lock lock(mutex_);
    const std::string log = file("log-" + std::to_string(processes_.size()));
    words.insert(words.begin(), own_program());
    words.insert(words.end(), {"--quiet"});
    processes_.emplace_back(start_process(words, log, output), log);
    return processes_.back().first;
  }
  void stop(int signal) {
    const std::scoped_lock lock(mutex_);
    for (const auto& [process, log] : processes_) ::kill(process, signal);
  }
  void wait_for(pid_t process) {
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOWAIT) != 0 &&
           errno == EINTR) {
    }
  }
  // Throws ConfigError with the last words of a process that has failed.
  void require_well() {
    for (const auto& [process, log] : processes_) {
      siginfo_t info{};
      const bool ended =
          ::waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
          info.si_pid == process;
      if (!ended || (info.si_code == CLD_EXITED && info.si_status == 0)) continue;
      throw ConfigError("the trial of a server failed: " + last_words(log),
                        "fedctl plan without --hosts does not start one");
    }
  }

 private:
  TrialFolder folder_{kRuns};
  std::mutex mutex_;  // signals come from a thread of their own
  std::vector<std::pair<pid_t, std::string>> processes_;
};

// Lines that a process writes, as they come.
class Lines {
 public:
  explicit Lines(int file) : file_(file) {}
  // false: none within kLookMs. Without a line at the end `over()` is true.
  bool next(std::string& line) {
    while (true) {
      if (const std::size_t end = text_.find('\n'); end != std::string::npos) {
        line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return true;
      }
      pollfd wait{file_, POLLIN, 0};
      if (over_ || ::poll(&wait, 1, kLookMs) <= 0) return false;
      std::array<char, 4096> buffer;
      const ssize_t count = ::read(file_, buffer.data(), buffer.size());
      if (count <= 0) {
        over_ = count == 0 || errno != EINTR;
        return false;
      }
      text_.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
  bool over() const { return over_; }

 private:
  int file_;
  std::string text_;
  bool over_ = false;
};

// What the round lines say.
struct Rounds {
  std::vector<double> took_s;  // without evaluation; the first without what came before it
  std::int64_t evaluated = 0;
  double evaluate_s = 0;                   // of all evaluations
  std::int64_t begin_ms = 0, last_ms = 0;  // wall time of the first round's begin, of the last line
  void add(const nlohmann::json& line) {
    last_ms = line.at("t_ms");
    const double evaluation = line.at("evaluate_ms");
    if (!line.at("loss").is_null()) {
      ++evaluated;
      evaluate_s += evaluation * 1e-3;
    }
    if (line.at("round") == 0) return;
    double took = line.at("round_ms").get<double>() - evaluation;
    if (took_s.empty()) {
      took -= line.at("wait_ms").get<double>();
      begin_ms = last_ms - static_cast<std::int64_t>(took + evaluation);
    }
    took_s.push_back(took * 1e-3);
  }
  double sum_s() const { return std::accumulate(took_s.begin(), took_s.end(), 0.0); }
  // Of the second half: the rounds before touch memory and disk for the first time.
  double settled_s() const {
    const auto half = took_s.begin() + static_cast<std::ptrdiff_t>(took_s.size() / 2);
    return std::accumulate(half, took_s.end(), 0.0) / static_cast<double>(took_s.end() - half);
  }
};

std::vector<std::string> server_words(const config::Source& source, const Crew& crew,
                                      std::size_t threads) {
  std::vector<std::string> words = {"server", "--config", source.name};
  for (const auto& [key, value] : source.overrides) add_setting(words, key, value);
  add_setting(words, "server.tls", "{}");  // the clients have no certificates
  words.insert(words.end(),
               {"--listen", "127.0.0.1:0", "--run-dir", crew.file("run"), "--port-file",
                crew.file("port"), "--threads", std::to_string(threads), "--format", "json"});
  return words;
}

std::vector<std::string> client_words(const Job& job, std::int64_t first, std::int64_t end,
                                      std::int64_t port, std::size_t threads) {
  std::vector<std::string> words = {"client",
                                    "--ids",
                                    std::to_string(first) + '-' + std::to_string(end - 1),
                                    "--server",
                                    "127.0.0.1:" + std::to_string(port),
                                    "--retry-s",
                                    kClientsWait,
                                    "--threads",
                                    std::to_string(threads)};
  Experiment experiment = job.experiment;
  config::visit_paths(experiment, [&words](const std::string&, std::string& path, bool) {
    if (!path.empty()) words.insert(words.end(), {"--allow-path", path});
  });
  return words;
}

}  // namespace

Served measure_server(const PlanOptions& options, const Job& job, std::size_t threads) {
  Served found;
  found.hosts = static_cast<std::size_t>(options.hosts);
  found.rounds = job.plan.rounds;
  found.evaluations = evaluations_of(job);
  Crew crew;
  const Signals signals([&crew] { crew.stop(SIGKILL); });
  const std::int64_t start_ms = wall_ms();
  Pipe pipe;
  const pid_t server = crew.start(server_words(options.source, crew, threads), pipe.ends[1]);
  pipe.close_writer();

  Lines lines(pipe.ends[0]);
  Rounds rounds;
  bool joined = false, stopped = false;
  for (std::string line; !lines.over();) {
    const bool there = lines.next(line);
    if (std::int64_t port = 0; !joined && std::ifstream(crew.file("port")) >> port) {
      joined = true;
      for (std::int64_t host = 0; host < options.hosts; ++host) {
        const std::int64_t first = job.plan.clients * host / options.hosts;
        const std::int64_t end = job.plan.clients * (host + 1) / options.hosts;
        crew.start(
            client_words(job, first, end, port, std::max<std::size_t>(1, threads / found.hosts)));
      }
    }
    if (!there) {
      if (signals.caught() == 0 && !stopped) crew.require_well();
      continue;
    }
    rounds.add(nlohmann::json::parse(line));
    found.peak_memory = std::max(found.peak_memory, peak_memory_of(std::to_string(server)));
    if (!stopped && rounds.took_s.size() >= kRoundsMin &&
        seconds_of(rounds.last_ms - rounds.begin_ms) >= kPlayS) {
      stopped = true;
      ::kill(server, SIGTERM);
    }
  }
  crew.wait_for(server);
  found.end_s = seconds_of(wall_ms() - rounds.last_ms);
  found.signal = signals.caught();
  if (found.signal != 0) return found;
  if (!stopped) crew.require_well();
  if (rounds.took_s.empty()) throw Error("the trial of a server ended without a round");
  found.played = static_cast<std::int64_t>(rounds.took_s.size());
  if (!stopped) {  // all there are
    found.rounds = found.played;
    found.evaluations = rounds.evaluated;
  }
  found.start_s = seconds_of(rounds.begin_ms - start_ms);
  found.played_s = rounds.sum_s();
  found.round_s = rounds.settled_s();
  found.evaluate_s =
      rounds.evaluate_s / static_cast<double>(std::max<std::int64_t>(1, rounds.evaluated));
  return found;
}

}  // namespace fedctl::run
