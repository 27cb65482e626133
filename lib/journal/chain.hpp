// Chain: a hash for every line of a journal, in a file beside it, so that a line that was edited,
// removed or moved is found (docs/journal.md).
//
// journal.chain holds one line for every line of journal.jsonl: h_i = BLAKE2b-256(h_(i-1) as 64 hex
// digits, then the bytes of line i without its newline), h_0 = "". It is beside the journal and not
// in it because the lines of two runs of one experiment are to be equal, and their times are not.
#pragma once

#include <string>
#include <vector>

namespace fedctl::journal {

// "runs/a/journal.jsonl" -> "runs/a/journal.chain".
std::string chain_path(const std::string& journal);

class Chain {
 public:
  // Opens or makes the chain of a journal whose last line is whole. Lines that have no hash yet, of
  // a process that died in between, get one. Throws RunDirectoryError as verify_chain() does, or if
  // the file cannot be written.
  explicit Chain(const std::string& journal);
  ~Chain();
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  // The line that was appended to the journal, without its newline.
  void add(const std::string& line);

 private:
  std::string path_;
  int file_ = -1;
  std::string last_;
  std::string pending_;  // hashes of lines that are in the journal, not yet in the file
};

// The hash of each line. Throws RunDirectoryError naming the first line that is not the one that
// was written, or the lines that are missing. Lines at the end without a hash are those of a
// process that died, and are accepted: at most one.
std::vector<std::string> verify_chain(const std::string& journal);

}  // namespace fedctl::journal
