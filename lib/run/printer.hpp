// Printer: results on standard output (a table on a terminal, else the journal's lines), progress
// on standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace fedctl::run {

enum class Format { automatic, text, json };

// What the table shows of a round.
struct Row {
  std::int64_t round = 0, rounds = 0;
  bool evaluated = false;
  double accuracy = 0, loss = 0, train_loss = 0;
  bool has_accuracy = false;
  std::int64_t clients = 0, replied = 0;
  std::uint64_t bytes_up = 0, bytes_down = 0;
  double round_ms = 0;
};

class Printer {
 public:
  Printer(Format format, bool quiet, bool verbose);

  // One committed round; `line` is its journal line.
  void round(const Row& row, const std::string& line);
  // Progress: overwritten on a terminal, at most every ten seconds elsewhere.
  void progress(const std::string& text);
  // A message for people, on standard error: "fedctl: <text>". Nothing if quiet.
  void notice(const std::string& text);
  void detail(const std::string& text);  // only if verbose

 private:
  void clear_progress();

  bool table_, quiet_, verbose_, terminal_;
  bool header_printed_ = false;
  bool progress_shown_ = false;
  std::chrono::steady_clock::time_point last_progress_;
};

// "81.9 kB"
std::string bytes_text(std::uint64_t bytes);

}  // namespace fedctl::run
