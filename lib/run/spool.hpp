// Spool: what the server's method has received in the open round, on disk (docs/durability.md).
#pragma once

#include <string>
#include <vector>

#include "talk/endpoint.hpp"

namespace fedctl::run {

// One result of Endpoint::receive().
struct Received {
  std::optional<talk::Envelope> envelope;  // none: the deadline passed
  Duration at{};                           // since the round began
};

// What stands in a spool's bytes, and how many of them are whole records: what is behind them is
// torn. Throws RunDirectoryError naming `path` if a record that is not the last is damaged.
struct SpoolContent {
  std::vector<Received> found;
  std::size_t whole = 0;
};
SpoolContent parse_spool(ByteView bytes, const std::string& path);

// A file of records, one a result: a control frame "record" {i64 at (ns), i64 from, i64 session,
// text reason, text what: message | joined | lost | passed}; for a message its data frame behind
// it.
class Spool {
 public:
  // Opens or makes the file and reads what it holds. A torn record at its end is cut off. Throws
  // RunDirectoryError if the file cannot be used, or if a record that is not the last is damaged.
  explicit Spool(std::string path);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // What was in the file when it was opened; leaves nothing behind.
  std::vector<Received> take() { return std::move(found_); }
  // With the next flush() or sync() at the latest it is written. Throws RunDirectoryError.
  // Precondition: a message, Joined, Lost, or null: the deadline passed.
  void append(const talk::Envelope* received, Duration at);
  void flush();
  // Returns when everything appended is on the disk. Throws RunDirectoryError.
  void sync();

 private:
  std::string path_;
  int file_ = -1;
  std::vector<Received> found_;
  Bytes pending_;
};

}  // namespace fedctl::run
