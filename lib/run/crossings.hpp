// What crossed between a server and each client, in a checkpoint.
#pragma once

#include <map>

#include "talk/ledger.hpp"
#include "wire/message.hpp"

namespace fedctl::run {

// {i64 "rows" [n, 11]: the client, the five parts up, the five down}.
wire::Message saved_crossings(const std::map<talk::PeerId, talk::Crossing>& bytes);
// Throws WireError on a message that has no such rows.
std::map<talk::PeerId, talk::Crossing> crossings_in(const wire::Message& saved);

}  // namespace fedctl::run
