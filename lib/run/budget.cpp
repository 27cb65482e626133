#include "run/budget.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "run/run_directory.hpp"

namespace fedctl::run {
namespace {

std::string bytes_reason(const std::string& key, std::int64_t limit, const std::string& spent,
                         std::int64_t next) {
  return "budget." + key + " is " + std::to_string(limit) + ", " + spent +
         ", and the next round may take " + std::to_string(next);
}

}  // namespace

void BudgetOptions::fields(config::Fields& fields) {
  constexpr std::int64_t kMax = std::int64_t{1} << 62;
  fields.integer("total_bytes", total_bytes, {0, kMax},
                 "bytes of all clients and both directions; 0: no bound");
  fields.integer("per_client_bytes", per_client_bytes, {0, kMax},
                 "bytes of one client and both directions; 0: no bound");
  fields.real("wall_s", wall_s, {.min = 0}, "time of all rounds, s; 0: no bound");
  fields.boolean("spread", spread,
                 "total_bytes decides the bits of every codec auto that has none of its own");
}

void Budget::add(const std::map<talk::PeerId, talk::Crossing>& by_peer, double round_s) {
  // Handshakes cross before the first round, and no later one is like it in that.
  const bool first = total_ == 0;
  std::int64_t round = 0, once = 0;
  for (const auto& [peer, crossing] : by_peer) {
    const auto bytes = static_cast<std::int64_t>(crossing.up.sum() + crossing.down.sum());
    const auto begin =
        static_cast<std::int64_t>(first ? crossing.up.control + crossing.down.control : 0);
    round += bytes;
    once += begin;
    if (peer < 0) continue;  // of strangers
    by_client_[peer] += bytes;
    most_of_one_ = std::max(most_of_one_, bytes - begin);
  }
  total_ += round;
  most_ = std::max(most_, round - once);
  wall_s_ += round_s;
  longest_s_ = std::max(longest_s_, round_s);
}

std::optional<Budget::Reason> Budget::next_exceeds() const {
  if (options_.total_bytes > 0 && total_ > options_.total_bytes - most_) {
    return Reason{bytes_reason("total_bytes", options_.total_bytes,
                               std::to_string(total_) + " are spent", most_)};
  }
  if (options_.per_client_bytes > 0) {
    for (const auto& [peer, bytes] : by_client_) {
      if (bytes <= options_.per_client_bytes - most_of_one_) continue;
      return Reason{bytes_reason(
          "per_client_bytes", options_.per_client_bytes,
          "client " + std::to_string(peer) + " has spent " + std::to_string(bytes), most_of_one_)};
    }
  }
  if (options_.wall_s > 0 && wall_s_ > options_.wall_s - longest_s_) {
    std::array<char, 160> text{};
    std::snprintf(text.data(), text.size(),
                  "budget.wall_s is %g, %.1f s are spent, and the next round may take %.1f",
                  options_.wall_s, wall_s_, longest_s_);
    return Reason{text.data(), true};
  }
  return std::nullopt;
}

wire::Message Budget::save() const {
  return wire::Message("budget")
      .with("wall_s", wall_s_)
      .with("longest_s", longest_s_)
      .with("total", total_)
      .with("most", most_)
      .with("most_of_one", most_of_one_)
      .with("clients", tensor_of(by_client_));
}

void Budget::load(const wire::Message& saved) {
  const wire::Expect fields(saved, "budget");
  wall_s_ = fields.real("wall_s");
  longest_s_ = fields.real("longest_s");
  total_ = fields.integer("total", 0, INT64_MAX);
  most_ = fields.integer("most", 0, INT64_MAX);
  most_of_one_ = fields.integer("most_of_one", 0, INT64_MAX);
  by_client_ = pairs_of(saved, "clients");
}

}  // namespace fedctl::run
