#include "journal/chain.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <vector>

#include "base/digest.hpp"
#include "base/errors.hpp"
#include "journal/append.hpp"

namespace fedctl::journal {
namespace {

std::string next_hash(const std::string& last, const std::string& line) {
  Digest digest;
  digest.add(as_bytes_of(std::string_view(last))).add(as_bytes_of(std::string_view(line)));
  return digest.hex();
}

// Whole lines of a file; none if there is no file.
std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  std::string line;
  while (std::getline(in, line) && !in.eof()) lines.push_back(line);
  return lines;
}

// The hashes that the journal's lines should have, checked against those that are there.
struct Checked {
  std::vector<std::string> expected;
  std::size_t present = 0;
};
Checked check(const std::string& journal) {
  const std::vector<std::string> lines = lines_of(journal);
  const std::vector<std::string> hashes = lines_of(chain_path(journal));
  Checked checked{{}, hashes.size()};
  std::string last;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    last = next_hash(last, lines[i]);
    checked.expected.push_back(last);
    if (i < hashes.size() && hashes[i] != last) {
      throw RunDirectoryError(
          journal + ':' + std::to_string(i + 1) + ": is not the line that was written here",
          "a line was edited, removed, added or moved at this place, or the hash in " +
              chain_path(journal) + " was");
    }
  }
  if (hashes.size() > lines.size()) {
    throw RunDirectoryError(journal + ": ends after line " + std::to_string(lines.size()) + ", " +
                                std::to_string(hashes.size()) + " were written",
                            "the last lines were removed");
  }
  return checked;
}

}  // namespace

std::string chain_path(const std::string& journal) {
  const std::size_t dot = journal.rfind('.');
  const std::size_t slash = journal.rfind('/');
  const bool named = dot != std::string::npos && (slash == std::string::npos || dot > slash);
  return (named ? journal.substr(0, dot) : journal) + ".chain";
}

Chain::Chain(const std::string& journal) : path_(chain_path(journal)) {
  const Checked checked = check(journal);
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (file_ < 0) fail(path_, "open");
  // 64 digits and a newline each; a torn one goes.
  const auto whole = static_cast<off_t>(checked.present * (2 * Digest::kBytes + 1));
  if (::ftruncate(file_, whole) != 0) fail(path_, "cut the torn last line");
  for (std::size_t i = 0; i < checked.expected.size(); ++i) {
    last_ = checked.expected[i];
    if (i < checked.present) continue;
    append_whole(file_, path_, last_ + '\n');
  }
}

Chain::~Chain() {
  if (file_ >= 0) ::close(file_);
}

void Chain::add(const std::string& line) {
  last_ = next_hash(last_, line);
  pending_ += last_ + '\n';
  append_whole(file_, path_, pending_);
  pending_.clear();
}

std::vector<std::string> verify_chain(const std::string& journal) {
  Checked checked = check(journal);
  if (checked.expected.size() > checked.present + 1) {
    throw RunDirectoryError(journal + ':' + std::to_string(checked.present + 1) +
                                ": was not written by the run that wrote the lines before it",
                            "lines were added behind the last hash of " + chain_path(journal));
  }
  return checked.expected;
}

}  // namespace fedctl::journal
