// Spool: what the server's method has received in the open round, on disk (docs/durability.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "talk/endpoint.hpp"
#include "wire/frame.hpp"

namespace fedctl::run {

// One result of Endpoint::receive().
struct Received {
  std::optional<talk::Envelope> envelope;  // none: the deadline passed
  Duration at{};                           // since the round began
};

// The records of a spool, one after the other: no more than one is in memory. What is behind the
// last whole one is torn. Throws RunDirectoryError naming `path` if a record is damaged that is not
// the last, or the bytes cannot be read.
class SpoolRecords {
 public:
  using ReadAt = std::function<void(std::uint64_t at, std::span<std::byte> out)>;
  SpoolRecords(ReadAt read, std::uint64_t size, std::string path);
  // Of a file. Throws RunDirectoryError if it cannot be opened.
  static SpoolRecords in(const std::string& path);

  // nullopt: there are no more.
  std::optional<Received> next();
  // Where the last one ends.
  std::uint64_t at() const { return at_; }
  // Goes through those that are left; at() afterwards.
  std::uint64_t skip_all();
  // Whether there are bytes behind at().
  bool more() const { return at_ < size_; }

 private:
  std::optional<talk::Message> frame(std::uint64_t& at, wire::Header& header);
  bool only_zeros_from(std::uint64_t at) const;
  [[noreturn]] void damaged(const std::string& what) const;

  ReadAt read_;
  std::uint64_t size_, at_ = 0;
  std::string path_;
  Bytes buffer_;
};

// A file of records, one a result: a control frame "record" {i64 at (ns), i64 from, i64 session,
// text reason, text what: message | joined | lost | passed}; for a message its data frame behind
// it.
class Spool {
 public:
  // Opens or makes the file and goes through what it holds. A torn record at its end is cut off.
  // Throws RunDirectoryError if the file cannot be used, or if a record that is not the last is
  // damaged.
  explicit Spool(std::string path);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // What is in the file by now; stays readable when this and the file's name are gone.
  SpoolRecords records();
  // With the next flush() or sync() at the latest it is written. Throws RunDirectoryError.
  // Precondition: a message, Joined, Lost, or null: the deadline passed.
  void append(const talk::Envelope* received, Duration at);
  void flush();
  // Returns when everything appended is on the disk. Throws RunDirectoryError.
  void sync();

 private:
  std::string path_;
  int file_ = -1;
  Bytes pending_;
};

}  // namespace fedctl::run
