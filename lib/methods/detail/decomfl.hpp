// The rule of DeComFL, on which Meerkat builds: every client measures the same directions, and what
// everyone steps by is their mean slope.
//
//   round t, local steps k = 1 .. tau, directions p = 1 .. P, z of the key (t, k, p)
//   client   g_kp along z_kp at w (a batch a step);  w <- w - lr / P sum_p g_kp z_kp
//   entry    G_kp = aggregate over clients of g_kp:  tau P numbers
//   all      w <- w - lr / P sum_p G_kp z_kp, k = 1 .. tau
#pragma once

#include "methods/detail/replay.hpp"

namespace fedctl::methods {

struct DecomflOptions : config::Options {
  std::int64_t directions = 1;
  double probe = 1e-3;
  std::string form = "forward", scalars = "float32";
  // HiSo: the directions are divided by the root of a curvature that all learn from the slopes.
  bool precondition = false, ablate = false;
  double smoothing = 0.95;
  void fields(config::Fields& fields) override;
};

class DecomflRule : public Rule {
 public:
  DecomflRule(const DecomflOptions& options, const JobPlan& plan);

  std::vector<float> first_curvature() const override;
  double norm(ByteView answer, std::int64_t steps) const override;
  Measured measure(const Replica& replica, std::int64_t steps, learn::Learner& learner,
                   ClientContext& ctx) const override;
  Bytes entry(const Replica& replica, const Answers& answers,
              aggregate::Aggregator& aggregator) const override;
  std::size_t entry_bytes(ByteView log) const override;
  void advance(Replica& replica, ByteView entry) const override;

 protected:
  // Slopes of an answer of so many steps, or of an entry.
  std::vector<float> slopes_in(ByteView bytes, std::int64_t steps) const {
    return code.decode(bytes, static_cast<std::size_t>(steps) * width_);
  }
  std::uint64_t key(std::int64_t round, std::size_t step, std::size_t direction) const {
    return plan.common.stream("direction", round, step, direction).key();
  }

 private:
  // w <- w - lr / P sum_p g_p z_p of a step.
  void move(std::int64_t round, std::size_t step, std::span<const float> slopes,
            std::span<const float> curvature, std::span<float> weights) const;

  DecomflOptions options_;
  std::size_t width_;  // P
  double lr_;
};

}  // namespace fedctl::methods
