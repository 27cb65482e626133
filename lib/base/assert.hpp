// FEDCTL_ASSERT: a statement that only a bug can make false. On in every build type.
// Input from outside must never reach one.
#pragma once

namespace fedctl {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
}

#define FEDCTL_ASSERT(expression) \
  ((expression) ? void(0) : ::fedctl::assertion_failed(#expression, __FILE__, __LINE__))
