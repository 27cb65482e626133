// What an aggregator makes of a round's replies.
#pragma once

#include <functional>
#include <span>

#include "methods/method.hpp"

namespace fedctl::methods {

// `take` reads a reply: the weight of its vector, which is as long as `out`, and the vector. Bit
// for bit the same whether the replies lie in memory, where all workers sum, or on disk.
using Take = std::function<aggregate::Contribution(PeerId from, const Message& reply)>;
void combine_replies(const Replies& replies, const Take& take, ServerContext& ctx,
                     std::span<float> out);

}  // namespace fedctl::methods
