// printf into a string.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

namespace fedctl::run {

// At most 511 characters.
[[gnu::format(printf, 1, 2)]] inline std::string print(const char* format, ...) {
  char buffer[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

}  // namespace fedctl::run
