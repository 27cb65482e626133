// One write to the end of a file, whole or not at all.
#pragma once

#include <string>

namespace fedctl::journal {

// Appends to the open file; if that fails half-way, cuts off what it has written, so that the next
// line does not run into it. Throws RunDirectoryError naming `path`.
void append_whole(int file, const std::string& path, const std::string& text);

// Throws RunDirectoryError: "path: cannot WHAT: reason" from errno.
[[noreturn]] void fail(const std::string& path, const char* what);

}  // namespace fedctl::journal
