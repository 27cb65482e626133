// Bucket: so many at once after a time of quiet, then so many a second. Lives on the network
// thread.
#pragma once

#include <algorithm>

#include "base/clock.hpp"

namespace fedctl::net {

class Bucket {
 public:
  Bucket(double at_once, double per_second)
      : at_once_(at_once), per_second_(per_second), left_(at_once) {}

  // False: not now.
  bool take() {
    const TimePoint now = std::chrono::steady_clock::now();
    left_ = std::min(at_once_, left_ + to_ms(now - looked_at_) * 1e-3 * per_second_);
    looked_at_ = now;
    if (left_ < 1) return false;
    left_ -= 1;
    return true;
  }
  // One that does not fill by itself.
  void add(double count) { left_ = std::min(at_once_, left_ + count); }

 private:
  double at_once_, per_second_, left_;
  TimePoint looked_at_ = std::chrono::steady_clock::now();
};

}  // namespace fedctl::net
