// Journal: one JSON object a line, appended and handed to the kernel at once (contract.md, section
// 5; docs/journal.md). Every line begins t_ms, run, role, peer, round, event.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fedctl::journal {

class Chain;

class Object;
using Value = std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string,
                           std::shared_ptr<const Object>>;

// Keys and values in the order of set(). A double that is not finite becomes null, with
// "<key>_nonfinite": "nan" | "inf" | "-inf" beside it.
class Object {
 public:
  Object& set(std::string_view key, Value value);
  Object& set(std::string_view key, const Object& value) {
    return set(key, Value(std::make_shared<const Object>(value)));
  }
  const std::vector<std::pair<std::string, Value>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, Value>> fields_;
};

class Event {
 public:
  explicit Event(std::string_view name) : name_(name) {}
  // The client that the line concerns; without it, `peer` is that of the journal's identity.
  Event& about(std::int64_t peer) {
    peer_ = peer;
    return *this;
  }
  template <class T>
  Event& set(std::string_view key, const T& value) {
    object_.set(key, value);
    return *this;
  }
  const std::string& name() const { return name_; }
  const std::optional<std::int64_t>& peer() const { return peer_; }
  const Object& object() const { return object_; }

 private:
  std::string name_;
  std::optional<std::int64_t> peer_;
  Object object_;
};

struct Identity {
  std::string run;
  std::string role;  // server | client | simulate
  std::optional<std::int64_t> peer;
};

class Journal {
 public:
  // Appends to the file (created if absent) and its chain, or to nothing if `path` is empty. A torn
  // last line, one without its newline, is cut off first. `now_ms` is wall time. Throws
  // RunDirectoryError if the file cannot be opened or was edited.
  Journal(std::string path, Identity identity, std::function<std::int64_t()> now_ms);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // The line as it would be written, without its newline: t_ms, run, role, peer, round, event, then
  // the fields as set. At most limits::kJournalLineBytesMax: long texts are cut and end in "...".
  // Bytes that are not UTF-8 become U+FFFD.
  std::string format(std::optional<std::int64_t> round, const Event& event) const;
  // One write(2) of the line and its newline. Thread-safe. Throws RunDirectoryError (a full disk,
  // say); nothing of the line is left in the file then.
  void append(const std::string& line);
  // Both; returns the line.
  std::string write(std::optional<std::int64_t> round, const Event& event);
  void sync();  // fsync

 private:
  std::string path_;
  Identity identity_;
  std::function<std::int64_t()> now_ms_;
  std::mutex mutex_;
  int file_ = -1;
  std::unique_ptr<Chain> chain_;
};

// The lines of a journal, each as JSON text. A last line without its newline is still being
// written, or torn, and is left out. Throws RunDirectoryError if there is no such file, and naming
// the first line that is not an object with an event.
std::vector<std::string> read_lines(const std::string& path);

// The last `round` line's round, if there is one (nor is there one without a file). Throws
// RunDirectoryError as read_lines() does.
std::optional<std::int64_t> last_round(const std::string& path);

}  // namespace fedctl::journal
