// Allowance: the bytes, both ways, that a site lets cross for one client (docs/experiment.md, "Site
// file"), of one round and in all. The server numbers the rounds: only a higher number than before
// begins one, and no more begin than the plan has, so a run costs no more than all its rounds.
// Lives on the network thread.
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

  // The rounds of the plan; 0: any number.
  void expect(std::int64_t rounds) {
    rounds_max_ = static_cast<std::uint64_t>(rounds);
    const bool too_many = rounds > 0 && round_max_ > UINT64_MAX / rounds_max_;
    run_max_ = too_many ? 0 : round_max_ * rounds_max_;
  }

  void spend(std::uint64_t bytes) {
    last_ = bytes;
    in_round_ += bytes;
    in_rounds_ += bytes;
    in_all_ += bytes;
  }
  // What was spent last belongs to this question, and begins its round if that is a new one.
  void belongs_to(talk::ExchangeId exchange) {
    const std::uint64_t round = place_of(exchange);
    if (round <= round_ || !may_begin()) return;
    round_ = round;
    ++begun_;
    in_round_ = last_;
  }

  // Bytes that may still cross; at most limits::kFrameBytesMax.
  std::uint64_t left() const { return left(in_round_); }
  std::uint64_t left_in_another_round() const { return left(may_begin() ? 0 : in_round_); }
  std::string spent() const {
    return "policy: no more bytes are allowed here (max_bytes_per_round " +
           std::to_string(round_max_) + ", max_bytes " + std::to_string(total_max_) +
           "; 0: any number)";
  }

 private:
  std::uint64_t left(std::uint64_t in_round) const {
    return std::min(
        {left(round_max_, in_round), left(run_max_, in_rounds_), left(total_max_, in_all_)});
  }
  // Of a round's question: rounds in their order, and attempts at each; steps and stages are of the
  // same one (methods/detail/exchanges.hpp).
  static std::uint64_t place_of(talk::ExchangeId exchange) {
    constexpr int kAttemptBits = 10;
    const std::uint64_t round = static_cast<std::uint32_t>(exchange);
    return (round << kAttemptBits) | (exchange >> 52 & ((1u << kAttemptBits) - 1));
  }
  bool may_begin() const { return rounds_max_ == 0 || begun_ < rounds_max_; }
  static std::uint64_t left(std::uint64_t max, std::uint64_t spent) {
    return max == 0 ? limits::kFrameBytesMax : max - std::min(max, spent);
  }

  std::uint64_t round_max_, total_max_;
  std::uint64_t rounds_max_ = 0, run_max_ = 0, begun_ = 0;
  std::uint64_t in_round_ = 0, in_rounds_ = 0, last_ = 0;
  std::atomic<std::uint64_t> in_all_ = 0;
  std::uint64_t round_ = 0;
};

}  // namespace fedctl::net
