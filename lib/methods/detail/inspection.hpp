// What every answer is checked for, beside what its method asks.
#pragma once

#include "methods/method.hpp"

namespace fedctl::methods {

// Throws ProtocolError if the answer says that the client failed.
void require_work(const Message& answer);
// Throws ProtocolError if its float32 tensors together are longer than the plan allows.
void require_norm(const Message& answer, const JobPlan& plan);

}  // namespace fedctl::methods
