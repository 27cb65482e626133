// The kinds of bad input from outside. A message names the place, the fault and what was expected,
// in lower case without a full stop; the hint says what to do. Bugs are FEDCTL_ASSERT's business.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace fedctl {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what, std::string hint = {})
      : std::runtime_error(what), hint_(std::move(hint)) {}
  const std::string& hint() const { return hint_; }

 private:
  std::string hint_;
};

// The experiment file, the command line or the environment (exit status 2).
class ConfigError : public Error {
  using Error::Error;
};
// Bytes that are not a valid frame, message or encoded tensor.
class WireError : public Error {
  using Error::Error;
};
// Valid bytes at the wrong time or of the wrong shape; also a refusal by the other side (3).
class ProtocolError : public Error {
  using Error::Error;
};
// A data or model file that cannot be used (5).
class DataError : public Error {
  using Error::Error;
};
// A run directory that is damaged, locked, or holds another run (6).
class RunDirectoryError : public Error {
  using Error::Error;
};
// The cohort's quorum was not reached before the deadline, or a budget is spent (4).
class QuorumError : public Error {
  using Error::Error;
};

}  // namespace fedctl
