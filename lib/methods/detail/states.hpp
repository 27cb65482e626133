// Reading a method's saved state. All throw WireError on a state that is not this method's.
#pragma once

#include <vector>

#include "methods/method.hpp"

namespace fedctl::methods {

// A tensor i64 of so many values; of any number if `count` is 0.
std::vector<std::int64_t> integers_in(const Message& state, const char* name,
                                      std::size_t count = 0);
// A tensor f32 [count]; none if it is not there.
std::vector<float> floats_in(const Message& state, const char* name, std::size_t count);

// A tensor f64 [count].
std::vector<double> doubles_in(const Message& state, const char* name, std::size_t count);

// A number for each client, as rows of two.
Tensor by_peer(const std::map<PeerId, std::int64_t>& numbers);
std::map<PeerId, std::int64_t> by_peer_in(const Message& state, const char* name);

}  // namespace fedctl::methods
