#include "run/describe.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "run/process.hpp"

namespace fedctl::run {
namespace {

// The kind of an error, its text and its hint, with a zero between them.
constexpr char kConfig = 'c', kData = 'd';

void tell(int output, char kind, const std::string& what, const std::string& hint) {
  const std::string text = kind + what + '\0' + hint;
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t count = ::write(output, text.data() + sent, text.size() - sent);
    if (count <= 0) return;
    sent += static_cast<std::size_t>(count);
  }
}

// The child's part. It has this process's memory, but none of its files and locks.
[[noreturn]] void describe(const learn::LearnerSpec& spec, const std::string& path, int output) {
  constexpr int kOutput = STDERR_FILENO + 1;
  if (output != kOutput) ::dup2(output, kOutput);
  ::close_range(kOutput + 1, ~0U, 0);
  try {
    learn::write_description(*learn::make_factory(spec)->make(), path);
    ::_exit(0);
  } catch (const ConfigError& error) {
    tell(kOutput, kConfig, error.what(), error.hint());
  } catch (const Error& error) {
    tell(kOutput, kData, error.what(), error.hint());
  } catch (const std::exception& error) {
    tell(kOutput, kData, error.what(), "");
  }
  ::_exit(1);
}

std::string read_to_end(int input) {
  std::string text;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t count = ::read(input, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace

learn::Description describe_apart(const learn::LearnerSpec& spec, const std::string& folder) {
  const std::string path = folder + "/model.tmp";
  Pipe pipe;
  const pid_t parent = ::getpid();
  const pid_t child = fork_process();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    describe(spec, path, pipe.ends[1]);
  }
  pipe.close_writer();
  const std::string told = read_to_end(pipe.ends[0]);
  const int status = wait_for(child);
  if (status == 0) {
    learn::Description description(path);
    ::unlink(path.c_str());
    return description;
  }
  ::unlink(path.c_str());
  if (told.empty()) {
    throw DataError(
        "model.kind: the process that opened the model ended with status " + std::to_string(status),
        "137 is a kill, as the system does when memory is short");
  }
  const std::size_t cut = std::min(told.find('\0'), told.size() - 1);
  const std::string what = told.substr(1, cut - 1), hint = told.substr(cut + 1);
  if (told.front() == kConfig) throw ConfigError(what, hint);
  throw DataError(what, hint);
}

}  // namespace fedctl::run
