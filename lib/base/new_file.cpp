#include "base/new_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/errors.hpp"

namespace fedctl {
namespace {

[[noreturn]] void fail_at(const std::string& path, const char* what) {
  throw RunDirectoryError(path + ": cannot " + what + ": " + std::strerror(errno),
                          "check permissions and free space");
}

}  // namespace

NewFile::NewFile(std::string path, unsigned mode)
    : path_(std::move(path)), temporary_(path_ + ".tmp"), file_(-1) {
  ::unlink(temporary_.c_str());
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (file_ < 0) fail("create");
}

NewFile::~NewFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void NewFile::fail(const char* what) const { fail_at(path_, what); }

void NewFile::put(ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(file_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void NewFile::commit() {
  if (::fsync(file_) != 0) fail("sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename into place");
  ::close(std::exchange(file_, -1));
}

void replace_file(const std::string& path, std::span<const ByteView> pieces, unsigned mode) {
  NewFile file(path, mode);
  for (const ByteView piece : pieces) file.put(piece);
  file.commit();
  sync_folder_of(path);
}

void replace_file(const std::string& path, ByteView bytes, unsigned mode) {
  replace_file(path, std::span(&bytes, 1), mode);
}

void sync_folder_of(const std::string& path) {
  std::string folder = std::filesystem::path(path).parent_path().string();
  if (folder.empty()) folder = ".";
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) fail_at(folder, "open");
  const bool synced = ::fsync(file) == 0;
  const int reason = errno;
  ::close(file);
  errno = reason;
  if (!synced) fail_at(folder, "sync");
}

}  // namespace fedctl
