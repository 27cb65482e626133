#include "base/scratch.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/assert.hpp"

namespace fedctl {

std::shared_ptr<Scratch> Scratch::in(std::string folder) {
  return std::shared_ptr<Scratch>(new Scratch(std::move(folder)));
}

Scratch::~Scratch() {
  if (file_ >= 0) ::close(file_);
}

void Scratch::fail(const char* what) const {
  throw RunDirectoryError(
      folder_ + ": cannot " + what + " the scratch file: " + std::strerror(errno),
      "check permissions and free space");
}

// Not every file system can make a file without a name.
void Scratch::open() {
  if (file_ >= 0) return;
  if (folder_.empty()) folder_ = std::filesystem::temp_directory_path().string();
  file_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file_ >= 0) return;
  std::string name = folder_ + "/scratch-XXXXXX";
  file_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (file_ < 0) fail("make");
  ::unlink(name.c_str());
}

std::shared_ptr<Scratch::Region> Scratch::take(std::uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  open();
  taken_ += bytes;
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    if (hole->second < bytes) continue;
    const auto [at, size] = *hole;
    holes_.erase(hole);
    if (size > bytes) holes_.emplace(at + bytes, size - bytes);
    return std::make_shared<Region>(shared_from_this(), at, bytes);
  }
  const std::uint64_t at = end_;
  end_ += bytes;
  return std::make_shared<Region>(shared_from_this(), at, bytes);
}

void Scratch::give_back(std::uint64_t at, std::uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  taken_ -= bytes;
  if (taken_ == 0) {
    holes_.clear();
    end_ = 0;
    // The disk has it back; if not now, then with the process.
    [[maybe_unused]] const int ignored = ::ftruncate(file_, 0);
    return;
  }
  if (bytes == 0) return;
  auto next = holes_.lower_bound(at);
  if (next != holes_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == at) {
      at = before->first;
      bytes += before->second;
      holes_.erase(before);
    }
  }
  if (next != holes_.end() && at + bytes == next->first) {
    bytes += next->second;
    holes_.erase(next);
  }
  if (at + bytes == end_) {
    end_ = at;
  } else {
    holes_.emplace(at, bytes);
  }
}

std::uint64_t Scratch::taken() const {
  const std::scoped_lock lock(mutex_);
  return taken_;
}

void Scratch::Region::write(std::uint64_t at, ByteView bytes) {
  FEDCTL_ASSERT(at + bytes.size() <= bytes_);
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(scratch_->file_, bytes.data(), bytes.size(), static_cast<off_t>(at_ + at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) scratch_->fail("write");
    at += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void Scratch::Region::read(std::uint64_t at, std::span<std::byte> out) const {
  FEDCTL_ASSERT(at + out.size() <= bytes_);
  while (!out.empty()) {
    const ssize_t count =
        ::pread(scratch_->file_, out.data(), out.size(), static_cast<off_t>(at_ + at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) scratch_->fail("read");
    at += static_cast<std::uint64_t>(count);
    out = out.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace fedctl
