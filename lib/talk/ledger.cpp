#include "talk/ledger.hpp"

#include <utility>

namespace fedctl::talk {

Traffic& Traffic::operator+=(const Traffic& other) {
  payload += other.payload;
  framing += other.framing;
  tls += other.tls;
  resent += other.resent;
  control += other.control;
  return *this;
}

void Ledger::add(PeerId peer, Direction direction, const Traffic& traffic) {
  const std::scoped_lock lock(mutex_);
  Crossing& crossing = open_[peer];
  (direction == Direction::up ? crossing.up : crossing.down) += traffic;
}

std::map<PeerId, Crossing> Ledger::take() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(open_, {});
}

Crossing total(const std::map<PeerId, Crossing>& by_peer) {
  Crossing sum;
  for (const auto& [peer, crossing] : by_peer) {
    sum.up += crossing.up;
    sum.down += crossing.down;
  }
  return sum;
}

}  // namespace fedctl::talk
