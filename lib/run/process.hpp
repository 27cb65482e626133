// Processes that are started: runs of a sweep, a trial of a server, the commands of Slurm.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace fedctl::run {

// The path of this program.
std::string own_program();
// "--set KEY=VALUE" behind the words.
void add_setting(std::vector<std::string>& words, const std::string& key, const std::string& value);
// As a POSIX shell reads it.
std::string shell_text(const std::vector<std::string>& words);

// Both ends are closed at destruction, and by a program that is started. Throws RunDirectoryError.
struct Pipe {
  Pipe();
  ~Pipe();
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_writer();
  std::array<int, 2> ends{-1, -1};  // reader, writer
};

// Starts words[0] with its standard error in the log and its standard output in `output`, or
// nowhere, in a process group of its own. It is killed when the calling thread's process is. Throws
// RunDirectoryError.
pid_t start_process(const std::vector<std::string>& words, const std::string& log, int output = -1);
// fork(2). Throws RunDirectoryError.
pid_t fork_process();
// Waits for its end; the status a shell would see: 128 + N for signal N.
int wait_for(pid_t process);
// The last line of its standard error that is not a hint, or "".
std::string last_words(const std::string& log);
// The most that a process has held so far, in bytes; "self" is this one. 0 if there is none.
std::uint64_t peak_memory_of(const std::string& process);

// What the command has printed. Throws ConfigError if there is no such command.
struct Printed {
  int status = 0;
  std::string out, err;
};
Printed run_command(const std::vector<std::string>& words);

}  // namespace fedctl::run
