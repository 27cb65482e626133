#include "run/sweep_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/errors.hpp"

namespace fedctl::run {
namespace {

constexpr int kNotStarted = 127;
constexpr std::size_t kPrintedBytesMax = std::size_t{1} << 20;

std::vector<char*> pointers_of(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Both ends closed at destruction.
struct Pipe {
  std::array<int, 2> ends{-1, -1};
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw RunDirectoryError(std::string("cannot make a pipe: ") + std::strerror(errno));
    }
  }
  ~Pipe() {
    for (const int end : ends) {
      if (end >= 0) ::close(end);
    }
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_writer() {
    ::close(ends[1]);
    ends[1] = -1;
  }
};

// Reads both to their ends.
void drain(Pipe& out, Pipe& err, Printed& printed) {
  std::array<pollfd, 2> waits{{{out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}}};
  const std::array<std::string*, 2> texts{&printed.out, &printed.err};
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      if (waits[i].fd < 0 || waits[i].revents == 0) continue;
      std::array<char, 4096> buffer;
      const ssize_t count = ::read(waits[i].fd, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        waits[i].fd = -1;
      } else if (texts[i]->size() < kPrintedBytesMax) {
        texts[i]->append(buffer.data(), static_cast<std::size_t>(count));
      }
    }
  }
}

}  // namespace

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

std::vector<std::string> command_of(const Sweep& sweep, std::size_t run, Start start,
                                    std::size_t threads) {
  std::vector<std::string> words = {own_program(), "simulate", "--config", sweep.experiment};
  const auto set = [&words](const std::string& key, const std::string& value) {
    words.emplace_back("--set");
    words.push_back(key + '=' + value);
  };
  for (const Setting& setting : sweep.set) set(setting.key, setting.value);
  for (const Setting& setting : sweep.cell_of(run).settings) set(setting.key, setting.value);
  set("seed", std::to_string(sweep.seed_of(run)));
  for (const std::string& word : {std::string("--run-dir"), sweep.directory_of(run),
                                  std::string("--threads"), std::to_string(threads)}) {
    words.push_back(word);
  }
  words.emplace_back("--quiet");
  if (start == Start::resume) words.emplace_back("--resume");
  if (start == Start::discard) words.emplace_back("--fresh");
  return words;
}

std::string shell_text(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    const bool plain = !word.empty() && word.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyz"
                                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789_-+=.,/:@") == std::string::npos;
    if (plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

pid_t start_process(const std::vector<std::string>& words, const std::string& log) {
  const std::vector<char*> pointers = pointers_of(words);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    throw RunDirectoryError(std::string("cannot start a process: ") + std::strerror(errno));
  }
  if (child > 0) return child;
  // Only calls that are safe between fork and exec of a process with threads.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int nothing = ::open("/dev/null", O_RDWR);
  const int error = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (::getppid() != parent || nothing < 0 || error < 0) ::_exit(kNotStarted);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(nothing, STDOUT_FILENO);
  ::dup2(error, STDERR_FILENO);
  ::execv(pointers[0], pointers.data());
  ::_exit(kNotStarted);
}

int exit_status(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

Printed run_command(const std::vector<std::string>& words) {
  const std::vector<char*> pointers = pointers_of(words);
  Pipe out, err;
  const pid_t child = ::fork();
  if (child < 0) {
    throw RunDirectoryError(std::string("cannot start a process: ") + std::strerror(errno));
  }
  if (child == 0) {
    ::dup2(out.ends[1], STDOUT_FILENO);
    ::dup2(err.ends[1], STDERR_FILENO);
    ::execvp(pointers[0], pointers.data());
    ::_exit(kNotStarted);
  }
  out.close_writer();
  err.close_writer();
  Printed printed;
  drain(out, err, printed);
  int wait_status = 0;
  while (::waitpid(child, &wait_status, 0) < 0 && errno == EINTR) {
  }
  printed.status = exit_status(wait_status);
  if (printed.status == kNotStarted) {
    throw ConfigError("there is no command " + words[0] + " here",
                      "run on a machine of the cluster, or use --executor local");
  }
  return printed;
}

}  // namespace fedctl::run
