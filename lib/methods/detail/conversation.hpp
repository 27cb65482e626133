// A round in which the server goes on talking with every client at the client's own pace: an
// answer brings the next question, or is the last one.
#pragma once

#include "methods/method.hpp"

namespace fedctl::methods {

// The next question to the client that has answered; nullopt: this was its answer to the round.
// Throws ProtocolError or DataError on an answer that cannot be gone on with.
using NextQuestion = std::function<std::optional<Message>(PeerId from, const Message& answer)>;

// Questions of a round are numbered as step_exchange() says, `requests` are the first ones. Depends
// on nothing but its arguments: fed with the same envelopes it asks the same. A client that comes
// back as another process is asked anew before its first answer, and lost for the round behind it.
// `inspect` is called with the last answer of each. Throws ProtocolError if the run closes
// meanwhile.
Task<talk::Answers> converse_each(Endpoint& net, Attempt attempt, const talk::Requests& requests,
                                  TimePoint until, NextQuestion next, talk::Inspect inspect);

}  // namespace fedctl::methods
