// Meerkat-vp: which clients are so skewed that their slopes die out. Of every client the server
// looks at the magnitudes of GradIP(t) = g_t <g_pub, z_t> in a calibration phase (Ran et al.,
// ICLR 2026, arXiv 2506.03337).
//
// Unconfirmed: which parts of the phase are compared, and all thresholds.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "methods/method.hpp"

namespace fedctl::methods {

struct SkewOptions {
  std::int64_t calibration = 100;             // steps
  double drop = 5, sigma = 0.1, quiet = 0.5;  // as in verdict_of()
  void fields(config::Fields& fields);
};

struct SkewVerdict {
  double drop = 0;   // mean magnitude of the first fifth over that of the second half
  double quiet = 0;  // share of the second half below sigma times the mean of the first fifth
  bool skewed = false;
};
// Precondition: ten values at least.
SkewVerdict verdict_of(std::span<const float> history, const SkewOptions& options);

class SkewWatch {
 public:
  explicit SkewWatch(const SkewOptions& options) : options_(options) {}

  // More of a client's magnitudes. The verdict, once, when the phase is over.
  std::optional<SkewVerdict> add(PeerId peer, std::span<const float> magnitudes);
  bool skewed(PeerId peer) const;

  void save(Message& state) const;
  void load(const Message& state);  // throws WireError

 private:
  SkewOptions options_;
  std::map<PeerId, std::vector<float>> history_;  // of clients without a verdict
  std::map<PeerId, std::int64_t> verdicts_;       // 1: skewed
};

}  // namespace fedctl::methods
