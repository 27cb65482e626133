// Allowance: the bytes, both ways, that a site lets cross for one client (docs/experiment.md, "Site
// file"), of one round and in all. Lives on the network thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "base/limits.hpp"
#include "talk/endpoint.hpp"

namespace fedctl::net {

class Allowance {
 public:
  // 0: no limit. `spent`: in all, by processes before this one.
  Allowance(std::uint64_t round_max, std::uint64_t total_max, std::uint64_t spent)
      : round_max_(round_max), total_max_(total_max), in_all_(spent) {}
  // From any thread.
  std::uint64_t in_all() const { return in_all_; }

  void spend(std::uint64_t bytes) {
    last_ = bytes;
    in_round_ += bytes;
    in_all_ += bytes;
  }
  // What was spent last belongs to this round, and begins it if it is another.
  void belongs_to(talk::ExchangeId round) {
    if (std::exchange(round_, round) != round) in_round_ = last_;
  }

  // Bytes that may still cross; at most limits::kFrameBytesMax.
  std::uint64_t left() const { return left(in_round_); }
  std::uint64_t left_in_another_round() const { return left(0); }
  std::string spent() const {
    return "policy: no more bytes are allowed here (max_bytes_per_round " +
           std::to_string(round_max_) + ", max_bytes " + std::to_string(total_max_) +
           "; 0: any number)";
  }

 private:
  std::uint64_t left(std::uint64_t in_round) const {
    return std::min(left(round_max_, in_round), left(total_max_, in_all_));
  }
  static std::uint64_t left(std::uint64_t max, std::uint64_t spent) {
    return max == 0 ? limits::kFrameBytesMax : max - std::min(max, spent);
  }

  std::uint64_t round_max_, total_max_;
  std::uint64_t in_round_ = 0, last_ = 0;
  std::atomic<std::uint64_t> in_all_ = 0;
  talk::ExchangeId round_ = 0;
};

}  // namespace fedctl::net
