#include "run/open_files.hpp"

#include <sys/resource.h>

#include <limits>

#include "base/errors.hpp"

namespace fedctl::run {
namespace {
constexpr std::size_t kOwn = 48;     // journal, spool, model and data files, loops' own
constexpr std::size_t kOthers = 64;  // the same, and strangers
}  // namespace

std::size_t allow_connections(std::size_t connections, const std::string& what) {
  rlimit files{};
  constexpr std::size_t kAny = std::numeric_limits<std::size_t>::max();
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return kAny;
  files.rlim_cur = files.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &files) != 0) ::getrlimit(RLIMIT_NOFILE, &files);
  const std::size_t wanted = connections + kOthers;
  if (files.rlim_cur == RLIM_INFINITY) return kAny;
  if (files.rlim_cur < wanted) {
    throw ConfigError(what + " needs " + std::to_string(wanted) +
                          " open files, this process may have " + std::to_string(files.rlim_cur),
                      "ulimit -Hn " + std::to_string(wanted) +
                          ", or LimitNOFILE= in the service's unit; or fewer clients a process");
  }
  return files.rlim_cur - kOwn;
}

}  // namespace fedctl::run
