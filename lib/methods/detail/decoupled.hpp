// How decoupled_diloco waits, weighs and merges; messages: decoupled_diloco.cpp.
#pragma once

#include <optional>

#include "methods/detail/diloco.hpp"

namespace fedctl::methods {

struct GraceOptions {
  double gamma = 1, tau = 2, cap_s = 1;
  void fields(config::Fields& fields);
};

// How long the server waits behind the quorum: clamp(gamma (tau xi_step - xi_quorum), 0, cap), the
// cap as long as xi_step is unknown. The times are moving averages of what was seen; xi_step is
// that of the answers up to the quorum, whose clients are those that wait.
class Grace {
 public:
  explicit Grace(const GraceOptions& options) : options_(options) {}
  bool never() const { return options_.gamma == 0 || options_.cap_s == 0; }
  double seconds() const;
  void saw_step(double seconds);    // from a question to its answer
  void saw_quorum(double seconds);  // from the merge before to the quorum
  void save(Message& state) const;
  void load(const Message& state);  // throws WireError

 private:
  GraceOptions options_;
  std::optional<double> step_, quorum_;
};

struct DecoupledOptions final : config::Options {
  std::int64_t quorum = 1;
  GraceOptions grace;
  std::string weights = "examples", merge = "mean";
  OuterOptions outer{.fragments = 4};
  bool ablate = false;
  void fields(config::Fields& fields) override;
};

// Throws ConfigError on a quorum of more than all clients.
std::unique_ptr<ServerMethod> make_decoupled_server(const DecoupledOptions& options,
                                                    const JobPlan& plan);

// Quantity times quality: tokens (tokens / steps), 0 without steps.
double token_weight(std::int64_t tokens, std::int64_t steps);

// The rules that make one delta of many, tensor by tensor; `bounds`: Fragment::bounds().
//   mean  sum w Delta / sum w, or the aggregator's
//   rda   radial-directional: (sum w |Delta| / sum w) phi(sum w phi(Delta) / sum w), where
//         phi(x) = x / |x|, phi(0) = 0; the mean where the directions cancel
// With `switches`, rda is the mean, too, where |mean| / (mean of |Delta|) < 0.5 / sqrt(deltas).
// Returns how many tensors rda left to the mean.
std::int64_t combine_radially(std::span<const aggregate::Contribution> deltas,
                              std::span<const std::size_t> bounds, bool switches,
                              aggregate::Aggregator& aggregator, std::span<float> out);

}  // namespace fedctl::methods
