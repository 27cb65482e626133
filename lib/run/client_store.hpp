// ClientStore: what the clients of a simulation keep while they sleep, in one flat file; in memory
// stands only where. A record is
//
//   offset size  field
//        0    8  client
//        8    8  bytes of the state; 0: it has none any more
//       16       state: encode_parts(), whose frames have checksums
//
// A new state is appended, so a checkpoint is the file's length at that time. When most of a file
// is superseded, the rest moves to a new one; the old one stays while a checkpoint may speak of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "run/run_directory.hpp"

namespace fedctl::run {

class ClientStore {
 public:
  // Makes the folder when there is something to put in it.
  explicit ClientStore(std::string folder);
  ~ClientStore();
  ClientStore(const ClientStore&) = delete;
  ClientStore& operator=(const ClientStore&) = delete;

  // The parts of a client's state; none if nothing was put. Thread-safe. Throw RunDirectoryError.
  Parts get(std::int64_t client) const;
  void put(std::int64_t client, const Parts& parts);

  // On the disk when this returns: what load() needs to come back to what is here now.
  wire::Message save();
  // Throws RunDirectoryError, ProtocolError on a message that is none of save().
  void load(const wire::Message& saved);

  // With a state, and what their file is large.
  std::size_t clients() const { return places_.size(); }
  std::uint64_t file_bytes() const;

 private:
  class File;
  struct Place {
    std::uint64_t at = 0, bytes = 0;  // of the state
  };
  using Places = std::map<std::int64_t, Place>;

  std::string path(std::int64_t generation) const;
  void compact();

  std::string folder_;
  mutable std::mutex mutex_;
  std::unique_ptr<File> file_;
  std::int64_t generation_ = 0, saves_ = 0;  // checkpoints of this generation
  std::uint64_t live_ = 0;                   // bytes of the records that count
  Places places_;
};

}  // namespace fedctl::run
