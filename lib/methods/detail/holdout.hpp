// evaluate.on: clients. A client scores the global weights it receives on its own held-out examples
// before it trains, and its answer carries three scalars more:
//
//   "holdout_correct", "holdout_count", "holdout_loss" (sum, nats)
#pragma once

#include <optional>

#include "methods/method.hpp"

namespace fedctl::methods {

// Scores of the weights on the client's held-out examples, of which there are some; none if the
// loss is not finite.
std::optional<learn::Scores> score_holdout(std::span<const float> weights, ClientContext& ctx);
void add_holdout(Message& answer, const learn::Scores& scores);
// What an answer says of them, if anything. Throws ProtocolError if that cannot be true.
std::optional<learn::Scores> reported_holdout(const Message& answer);

}  // namespace fedctl::methods
