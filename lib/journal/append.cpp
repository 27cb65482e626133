#include "journal/append.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/errors.hpp"

namespace fedctl::journal {

void fail(const std::string& path, const char* what) {
  throw RunDirectoryError(path + ": cannot " + what + ": " + std::strerror(errno),
                          "check permissions and free space");
}

void append_whole(int file, const std::string& path, const std::string& text) {
  const off_t start = ::lseek(file, 0, SEEK_END);
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t count = ::write(file, text.data() + at, text.size() - at);
    if (count >= 0) {
      at += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      const int reason = errno;
      if (at > 0 && ::ftruncate(file, start) != 0) fail(path, "cut a half-written line");
      errno = reason;
      fail(path, "write");
    }
  }
}

}  // namespace fedctl::journal
