// What an aggregator makes of a round's replies.
#pragma once

#include <functional>
#include <vector>

#include "methods/method.hpp"

namespace fedctl::methods {

// `take` reads a reply: the weight of its vector of `count` values, and the vector. Bit for bit the
// same whether the replies lie in memory, where all workers sum, or on disk.
using Take = std::function<aggregate::Contribution(PeerId from, const Message& reply)>;
std::vector<float> combine_replies(const Replies& replies, const Take& take, ServerContext& ctx,
                                   std::size_t count);

}  // namespace fedctl::methods
