// evaluate.on: clients. A client scores the global weights it receives on its own held-out examples
// before it trains, and its answer carries three scalars more:
//
//   "holdout_correct", "holdout_count", "holdout_loss" (sum, nats)
#pragma once

#include <optional>

#include "methods/method.hpp"

namespace fedctl::methods {

// Scores of the task's weights (its tensor "weights", of the layout's size). None if this round has
// no evaluation, the client has no held-out examples, the task carries no weights, or the loss is
// not finite.
std::optional<learn::Scores> score_holdout(const Message& task, std::int64_t round,
                                           ClientContext& ctx);
void add_holdout(Message& answer, const learn::Scores& scores);
// What an answer says of them, if anything. Throws ProtocolError if that cannot be true.
std::optional<learn::Scores> reported_holdout(const Message& answer);

}  // namespace fedctl::methods
