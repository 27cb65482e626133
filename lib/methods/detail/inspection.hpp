// What every answer is checked for, beside what its method asks, and what every merge adds up.
#pragma once

#include "methods/method.hpp"

namespace fedctl::methods {

// Throws ProtocolError if the answer says that the client failed.
void require_work(const Message& answer);
// Throws ProtocolError if the norm, or that of an answer's float32 tensors together, is beyond the
// plan's. `what` it is the norm of, for the message.
void require_norm(double norm, const JobPlan& plan, const std::string& what = "");
void require_norm(const Message& answer, const JobPlan& plan);
// "examples" of an update, after a check of it, of "steps" and of "loss". Throws ProtocolError.
std::int64_t require_report(const Message& update, const JobPlan& plan);

// Adds an update's report; returns its examples. finish() makes the loss a mean.
std::int64_t add_report(RoundServer::Merged& merged, const Message& update);
void finish(RoundServer::Merged& merged);

// Too few have answered within so many deadlines, and the round goes on. Tells the sink, and throws
// QuorumError when plan.attempts_max of them have passed in this process.
void lack(std::int64_t deadlines, const RoundReport& report, const std::string& why,
          const std::string& hint, const ServerContext& ctx);

}  // namespace fedctl::methods
