// The control messages with which a connection begins and ends (docs/protocol.md, "Handshake"):
// both sides make them here, and so does who counts what they take.
#pragma once

#include <string>

#include "talk/endpoint.hpp"

namespace fedctl::net {

inline talk::Message hello_of(talk::PeerId client, const std::string& version) {
  return talk::Message("hello").with("client", client).with("version", version);
}
// `experiment`: its effective YAML; `run`: the run's number.
inline talk::Message plan_of(const std::string& experiment, double idle_s, std::int64_t run) {
  return talk::Message("plan")
      .with("experiment", experiment)
      .with("idle_s", idle_s)
      .with("run", run);
}
// `ready` holds the client's digests and session; these are added to it.
inline talk::Message listening(talk::Message ready, std::uint16_t port) {
  return std::move(ready).with("listen", std::int64_t{port});
}
inline talk::Message welcome() { return talk::Message("welcome"); }
// The status of a run that may go on: its clients come back.
inline constexpr const char* kInterrupted = "interrupted";
inline talk::Message end_of(const std::string& status) {
  return talk::Message("end").with("status", status);
}

}  // namespace fedctl::net
