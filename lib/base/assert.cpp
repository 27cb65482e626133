#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace fedctl {

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "fedctl: bug: %s:%d: assertion failed: %s\n", file, line, expression);
  std::abort();
}

}  // namespace fedctl
