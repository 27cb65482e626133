#include "run/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"

namespace fedctl::run {
namespace {

constexpr int kNotStarted = 127;
constexpr std::streamoff kLogTailBytes = 4096;
constexpr std::size_t kPrintedBytesMax = std::size_t{1} << 20;

std::vector<char*> pointers_of(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

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

Pipe::Pipe() {
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw RunDirectoryError(std::string("cannot make a pipe: ") + std::strerror(errno));
  }
}

Pipe::~Pipe() {
  for (const int end : ends) {
    if (end >= 0) ::close(end);
  }
}

void Pipe::close_writer() {
  ::close(ends[1]);
  ends[1] = -1;
}

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

void add_setting(std::vector<std::string>& words, const std::string& key,
                 const std::string& value) {
  words.emplace_back("--set");
  words.push_back(key + '=' + value);
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

pid_t fork_process() {
  const pid_t child = ::fork();
  if (child < 0) {
    throw RunDirectoryError(std::string("cannot start a process: ") + std::strerror(errno));
  }
  return child;
}

int wait_for(pid_t process) {
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

pid_t start_process(const std::vector<std::string>& words, const std::string& log, int output) {
  const std::vector<char*> pointers = pointers_of(words);
  const pid_t parent = ::getpid();
  const pid_t child = fork_process();
  if (child > 0) return child;
  // Only calls that are safe between fork and exec of a process with threads.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int nothing = ::open("/dev/null", O_RDWR);
  const int error = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (::getppid() != parent || nothing < 0 || error < 0) ::_exit(kNotStarted);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output >= 0 ? output : nothing, STDOUT_FILENO);
  ::dup2(error, STDERR_FILENO);
  ::execv(pointers[0], pointers.data());
  ::_exit(kNotStarted);
}

std::uint64_t peak_memory_of(const std::string& process) {
  std::ifstream in("/proc/" + process + "/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) << 10;
  }
  return 0;
}

std::string last_words(const std::string& log) {
  std::ifstream in(log, std::ios::binary | std::ios::ate);
  if (!in) return "";
  in.seekg(std::max<std::streamoff>(0, static_cast<std::streamoff>(in.tellg()) - kLogTailBytes));
  std::string line, last;
  while (std::getline(in, line)) {
    if (!line.empty() && !line.starts_with("hint: ")) last = line;
  }
  return last;
}

Printed run_command(const std::vector<std::string>& words) {
  const std::vector<char*> pointers = pointers_of(words);
  Pipe out, err;
  const pid_t child = fork_process();
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
  printed.status = wait_for(child);
  if (printed.status == kNotStarted) {
    throw ConfigError("there is no command " + words[0] + " here",
                      "run on a machine of the cluster, or use --executor local");
  }
  return printed;
}

}  // namespace fedctl::run
