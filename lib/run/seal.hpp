// The signature under a journal (docs/journal.md): journal.signature holds the number of lines, the
// signature over that number and the chain's hash of the last of them, and the signer's
// certificate.
#pragma once

#include <string>
#include <vector>

#include "net/tls.hpp"

namespace fedctl::run {

// Signs the journal as it stands. Throws RunDirectoryError, ConfigError.
void seal(const std::string& run, const net::TlsFiles& signer);

// For how many lines the signature stands, 0 if there is none; `hashes` are those of the chain.
// Throws RunDirectoryError if it is wrong, or missing where an authority is given.
std::size_t check_seal(const std::string& run, const std::vector<std::string>& hashes,
                       const std::string& authority);

}  // namespace fedctl::run
