// Scratch: bytes that need not stay in memory, in a file without a name that is gone with the
// process. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/bytes.hpp"

namespace fedctl {

class Scratch : public std::enable_shared_from_this<Scratch> {
 public:
  // A piece of the file, given back when it is destroyed.
  class Region {
   public:
    Region(std::shared_ptr<Scratch> scratch, std::uint64_t at, std::uint64_t bytes)
        : scratch_(std::move(scratch)), at_(at), bytes_(bytes) {}
    ~Region() { scratch_->give_back(at_, bytes_); }
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;

    std::uint64_t size() const { return bytes_; }
    // Within the region (FEDCTL_ASSERT). Throw RunDirectoryError naming the folder: the disk is
    // full, or fails.
    void write(std::uint64_t at, ByteView bytes);
    void read(std::uint64_t at, std::span<std::byte> out) const;

   private:
    std::shared_ptr<Scratch> scratch_;
    std::uint64_t at_, bytes_;
  };

  // The file is made with the first region. "": in the system's temporary folder.
  static std::shared_ptr<Scratch> in(std::string folder);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Takes space in the file, and on the disk what is written. Throws RunDirectoryError if no file
  // can be made there.
  std::shared_ptr<Region> take(std::uint64_t bytes);
  // Bytes of all regions.
  std::uint64_t taken() const;

 private:
  explicit Scratch(std::string folder) : folder_(std::move(folder)) {}
  void open();
  void give_back(std::uint64_t at, std::uint64_t bytes);
  [[noreturn]] void fail(const char* what) const;

  std::string folder_;
  int file_ = -1;
  mutable std::mutex mutex_;                      // guards what follows
  std::map<std::uint64_t, std::uint64_t> holes_;  // free: bytes by place
  std::uint64_t end_ = 0, taken_ = 0;
};

}  // namespace fedctl
