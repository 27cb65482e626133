// A library to preload: from the N-th call on that changes a file below a folder, calls fail.
//   FAILING_DISK_FOLDER   only files below it
//   FAILING_DISK_AT       the first call that fails, from 1
//   FAILING_DISK_KIND     full: it and all after it, ENOSPC; once: it alone, EIO; short: a write
//                         takes half of its bytes; kill: the process is killed before it
//   FAILING_DISK_COUNT    a file that gets the number of calls seen, at exit
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

struct Plan {
  std::string folder = setting("FAILING_DISK_FOLDER");
  std::string kind = setting("FAILING_DISK_KIND");
  long at = std::atol(setting("FAILING_DISK_AT").c_str());
  std::string report = setting("FAILING_DISK_COUNT");
  std::atomic<long> seen{0};

  ~Plan() {
    if (report.empty()) return;
    if (std::FILE* file = std::fopen(report.c_str(), "w")) {
      std::fprintf(file, "%ld\n", seen.load());
      std::fclose(file);
    }
  }
};
Plan& plan() {
  static Plan plan;
  return plan;
}

bool below(const char* path) {
  return !plan().folder.empty() &&
         std::strncmp(path, plan().folder.c_str(), plan().folder.size()) == 0;
}
bool below(int file) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(file);
  const ssize_t length = ::readlink(link.c_str(), path.data(), path.size() - 1);
  return length > 0 && below(path.data());
}

// Whether the call that is being made fails; errno is set then.
bool fails() {
  const long now = ++plan().seen;
  if (plan().kind == "full" && now >= plan().at) {
    errno = ENOSPC;
    return true;
  }
  if (plan().kind == "kill" && now == plan().at) ::raise(SIGKILL);
  if (plan().kind == "once" && now == plan().at) {
    errno = EIO;
    return true;
  }
  return false;
}
bool is_short() { return plan().kind == "short" && plan().seen == plan().at; }

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t write(int file, const void* bytes, size_t count) {
  static auto* const next = real<ssize_t(int, const void*, size_t)>("write");
  if (!below(file)) return next(file, bytes, count);
  if (fails()) return -1;
  return next(file, bytes, is_short() ? (count + 1) / 2 : count);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  static auto* const next = real<ssize_t(int, const struct iovec*, int)>("writev");
  if (!below(file)) return next(file, parts, count);
  if (fails()) return -1;
  return next(file, parts, is_short() ? 1 : count);
}

int fsync(int file) {
  static auto* const next = real<int(int)>("fsync");
  return below(file) && fails() ? -1 : next(file);
}

int fdatasync(int file) {
  static auto* const next = real<int(int)>("fdatasync");
  return below(file) && fails() ? -1 : next(file);
}

int ftruncate(int file, off_t size) noexcept {
  static auto* const next = real<int(int, off_t)>("ftruncate");
  return below(file) && fails() ? -1 : next(file, size);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next = real<int(const char*, const char*)>("rename");
  return below(to) && fails() ? -1 : next(from, to);
}

// Only to be killed before it: that a file is still there is no fault that is waited for.
int unlink(const char* path) noexcept {
  static auto* const next = real<int(const char*)>("unlink");
  if (plan().kind == "kill" && below(path)) fails();
  return next(path);
}

}  // extern "C"
