// RunDirectory: what one run leaves on disk (contract.md, section 4): experiment.yaml,
// journal.jsonl, checkpoint/, spool/, adapter/, lock.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/new_file.hpp"
#include "wire/message.hpp"

namespace fedctl::run {

enum class Start { create, resume, discard };  // (no option), --resume, --fresh

// Memories beside the state of a checkpoint, by name.
using Parts = std::map<std::string, wire::Message>;

// flock(2) on a file, which is made if need be, until destruction.
class FileLock {
 public:
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  bool open() const { return file_ >= 0; }  // else errno says why
  bool held() const { return held_; }       // else another process has it

 private:
  int file_;
  bool held_;
};

// Checkpoints that are kept, the newest ones.
inline constexpr std::size_t kGenerations = 2;

class RunDirectory {
 public:
  // Makes or opens the directory and locks it until destruction. Throws RunDirectoryError if
  // another process holds the lock or nothing can be written; ConfigError if a run is there and
  // neither --resume nor --fresh was given, or there is none to resume. One that was killed before
  // its round 0 was committed begins anew with --resume.
  RunDirectory(std::string path, Start start);

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + '/' + name; }
  bool resumed() const { return resumed_; }

  // Atomically: temporary file, fsync, rename, fsync of the folder. Throws RunDirectoryError.
  void write(const std::string& name, const std::string& text) const;
  // Keeps the newest two.
  void save_checkpoint(std::int64_t round, const wire::Message& state, const Parts& parts) const;
  // The newest one that is whole. Throws RunDirectoryError if there are some but none is.
  struct Checkpoint {
    wire::Message state;
    Parts parts;
  };
  std::optional<Checkpoint> load_checkpoint() const;

 private:
  bool holds_run() const;
  bool holds_rounds() const;
  void discard() const;

  std::string path_;
  FileLock lock_;
  bool resumed_ = false;
};

// A file in each folder below adapter/: "DIGEST  NAME" for every other file there, as
// `b2sum --length 256` prints and checks them.
inline constexpr const char* kSumsName = "B2SUMS";
// Names of the other files of a folder, sorted; those being written are left out.
std::vector<std::string> files_of(const std::string& folder);
std::string absolute_path(const std::string& path);
// With those above it. Throws RunDirectoryError.
void create_folder(const std::string& path);
// The same atomic write for any file (base/new_file.hpp).
void write_atomically(const std::string& path, ByteView bytes);
// All of it to an open file. Throws RunDirectoryError naming `path`.
void write_all(int file, const std::string& path, ByteView bytes);
// Fills `out` from that place of an open file. Throws RunDirectoryError naming `path`.
void read_all(int file, const std::string& path, std::uint64_t at, std::span<std::byte> out);
Bytes read_file(const std::string& path);  // throws RunDirectoryError
// A state and its parts in one row of frames. decode_parts() throws WireError on anything else.
Bytes encode_parts(const wire::Message& state, const Parts& parts);
Bytes encode_parts(const Parts& parts);  // without the state in front
wire::Message decode_parts(ByteView bytes, Parts& parts);
// "round-00000007": sorted as numbers are.
std::string round_name(std::int64_t round);
// An i64 tensor [n, 2], and back. pairs_of() throws WireError if the message has no such tensor.
Tensor tensor_of(const std::map<std::int64_t, std::int64_t>& pairs);
std::map<std::int64_t, std::int64_t> pairs_of(const wire::Message& message,
                                              const std::string& name);

}  // namespace fedctl::run
