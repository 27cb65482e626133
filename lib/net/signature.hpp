// Signatures with the key of a certificate: the server's, under the journal of a run.
#pragma once

#include <string>

#include "base/bytes.hpp"

namespace fedctl::net {

// In hex. Throws ConfigError if the key cannot be used.
std::string sign(const std::string& key_file, ByteView bytes);

// Throws ConfigError if the authority's file cannot be used, ProtocolError if `certificate` (PEM
// text) is none, if its key has not signed these bytes, or if `authority` has not issued it for a
// server ("": by whomever). Whether it has expired since does not matter.
void check_signature(const std::string& certificate, const std::string& authority, ByteView bytes,
                     const std::string& hex);

}  // namespace fedctl::net
