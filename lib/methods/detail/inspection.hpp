// What every answer is checked for, beside what its method asks, and what every merge adds up.
#pragma once

#include "methods/method.hpp"

namespace fedctl::methods {

// Throws ProtocolError if the answer says that the client failed.
void require_work(const Message& answer);
// Throws ProtocolError if a value of its float32 tensors is beyond limits::kUpdateValueMax: sums of
// such values could not be kept.
void require_values(const Message& message);
// Throws ProtocolError if the norm, or that of an answer's float32 tensors together, is beyond the
// plan's, or a number as require_values() has it. `what` it is the norm of, for the message.
void require_norm(double norm, const JobPlan& plan, const std::string& what = "");
void require_norm(const Message& answer, const JobPlan& plan);
// "examples" of an update, after a check of it, of "steps" and of "loss". Throws ProtocolError.
std::int64_t require_report(const Message& update, PeerId from, const JobPlan& plan);
// "path" of an update: the sum of the rates of its steps, at most what the plan allows for as many
// examples as the client may have. Throws ProtocolError.
double require_path(const Message& update, PeerId from, const JobPlan& plan);

// Notes the digest of its tensors' bytes, in order of name, if the plan asks for it.
void note_digest(PeerId from, const Message& update, const JobPlan& plan, RoundReport& report);

// Adds an update's report; returns its examples. finish() makes the loss a mean.
std::int64_t add_report(RoundServer::Merged& merged, const Message& update);
void finish(RoundServer::Merged& merged);

// Too few have answered within so many deadlines, and the round goes on. Tells the sink, and throws
// QuorumError when plan.attempts_max of them have passed in this process.
void lack(std::int64_t deadlines, const RoundReport& report, const std::string& why,
          const std::string& hint, const ServerContext& ctx);

}  // namespace fedctl::methods
