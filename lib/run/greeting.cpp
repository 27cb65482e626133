#include "run/greeting.hpp"

#include "net/greeting.hpp"
#include "wire/frame.hpp"

namespace fedctl::run {
namespace {

std::uint64_t bytes_of(const talk::Message& control) {
  return wire::encode_frame(wire::FrameType::control, 0, control).size();
}

}  // namespace

talk::Crossing handshake_of(Job& job, const std::string& version) {
  // Numbers have one size, whatever they are.
  constexpr std::int64_t kAny = 1;
  talk::Message ready = job.digests.message().with("session", kAny);
  if (job.method().neighbours) ready = net::listening(std::move(ready), kAny);
  talk::Crossing crossing;
  crossing.up.control = bytes_of(net::hello_of(kAny, version)) + bytes_of(ready);
  crossing.down.control =
      bytes_of(net::plan_of(plan_text(job.experiment), job.experiment.server.idle_s, kAny)) +
      bytes_of(net::welcome());
  return crossing;
}

talk::Crossing farewell_of(const std::string& status) {
  talk::Crossing crossing;
  crossing.down.control = bytes_of(net::end_of(status));
  return crossing;
}

void count_for_all(const Job& job, const talk::Crossing& each, talk::Ledger& ledger) {
  for (talk::PeerId id = 0; id < job.plan.clients; ++id) {
    ledger.add(id, talk::Direction::up, each.up);
    ledger.add(id, talk::Direction::down, each.down);
  }
}

}  // namespace fedctl::run
