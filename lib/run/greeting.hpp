// What a client's connection takes beside the messages of a method, over TCP without TLS: its
// handshake and the end of the run. `simulate` counts them as TCP would; heartbeats and what
// reconnections cost depend on time, and are not in it.
#pragma once

#include <string>

#include "run/job.hpp"
#include "talk/ledger.hpp"

namespace fedctl::run {

// Of one client; all have the same. `version` is the program's, which a client names.
talk::Crossing handshake_of(Job& job, const std::string& version);
talk::Crossing farewell_of(const std::string& status);

// Notes the same for every client of the job.
void count_for_all(const Job& job, const talk::Crossing& each, talk::Ledger& ledger);

}  // namespace fedctl::run
