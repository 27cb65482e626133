// Budget: ends a run before it would exceed the bytes or the time it was given.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "config/fields.hpp"
#include "talk/ledger.hpp"
#include "wire/message.hpp"

namespace fedctl::run {

struct BudgetOptions final : config::Options {
  std::int64_t total_bytes = 0, per_client_bytes = 0;  // both directions; 0: no bound
  double wall_s = 0;
  bool spread = false;
  void fields(config::Fields& fields) override;
};

// The next round is expected to cost as much as the most expensive one so far, without the control
// bytes of the first, the handshakes. The first is run without a forecast.
class Budget {
 public:
  explicit Budget(const BudgetOptions& options) : options_(options) {}

  // A round's bytes by client and its time.
  void add(const std::map<talk::PeerId, talk::Crossing>& by_peer, double round_s);
  // Why no further round may begin: which budget, what is spent, what the next would take.
  struct Reason {
    std::string text;
    bool time = false;  // wall_s, not bytes
  };
  std::optional<Reason> next_exceeds() const;

  // For the checkpoint: {f64 "wall_s", "longest_s"; i64 "total", "most", "most_of_one"; i64 tensor
  // "clients" [n, 2] of ids and bytes}. load() throws ProtocolError, WireError on anything else.
  wire::Message save() const;
  void load(const wire::Message& saved);

 private:
  BudgetOptions options_;
  double wall_s_ = 0, longest_s_ = 0;
  std::int64_t total_ = 0, most_ = 0;               // bytes: so far, and of one round
  std::map<talk::PeerId, std::int64_t> by_client_;  // so far
  std::int64_t most_of_one_ = 0;                    // of one client in one round
};

}  // namespace fedctl::run
