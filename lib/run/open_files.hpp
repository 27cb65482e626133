// How many files, connections among them, this process may have open.
#pragma once

#include <cstddef>
#include <string>

namespace fedctl::run {

// Raises the limit as far as the system allows this process to. Throws ConfigError naming `what`
// needs them if that is less than `connections` and what else is open. Returns how many connections
// leave enough for the process's own files.
std::size_t allow_connections(std::size_t connections, const std::string& what);

}  // namespace fedctl::run
