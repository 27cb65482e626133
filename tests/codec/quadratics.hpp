// The convex problem that the sheets of biased codecs are checked on.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "codec/chains.hpp"

namespace fedctl::test {

// Four clients with diagonal quadratics of their own in 64 coordinates, ten steps of gradient
// descent a round, their changes through a chain, the mean added. The distance to where
// uncompressed rounds end, over its norm, after 2000 rounds.
inline double distance_to_dense(const std::vector<config::Plugin>& stages,
                                const std::string& feedback) {
  constexpr std::size_t kCount = 64, kClients = 4;
  Rng rng(5);
  std::vector<std::vector<double>> curvature(kClients), optimum(kClients);
  std::vector<double> factor(kCount), target(kCount);
  for (std::size_t c = 0; c < kClients; ++c) {
    for (std::size_t i = 0; i < kCount; ++i) {
      curvature[c].push_back(rng.uniform(0.5, 2));
      optimum[c].push_back(rng.normal());
    }
  }
  // Ten steps of rate 0.05 move x by (1 - (1 - 0.05 a)^10) (optimum - x).
  const auto share = [&](std::size_t c, std::size_t i) {
    return 1 - std::pow(1 - 0.05 * curvature[c][i], 10);
  };
  for (std::size_t c = 0; c < kClients; ++c) {
    for (std::size_t i = 0; i < kCount; ++i) {
      factor[i] += share(c, i);
      target[i] += share(c, i) * optimum[c][i];
    }
  }
  for (std::size_t i = 0; i < kCount; ++i) target[i] /= factor[i];

  const Chain chain{"", stages, feedback};
  std::vector<std::unique_ptr<codec::Codec>> senders, receivers;
  for (std::size_t c = 0; c < kClients; ++c) {
    senders.push_back(chain.make({kCount}));
    receivers.push_back(feedback == "ef14" ? Chain{"", chain.stages}.make({kCount})
                                           : chain.make({kCount}));
  }
  std::vector<double> x(kCount);
  std::vector<float> change(kCount), decoded(kCount);
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> mean(kCount);
    for (std::size_t c = 0; c < kClients; ++c) {
      for (std::size_t i = 0; i < kCount; ++i) {
        change[i] = static_cast<float>(share(c, i) * (optimum[c][i] - x[i]));
      }
      senders[c]->synchronise(receivers[c]->stamp());
      const Bytes bytes = senders[c]->encode(change, rng);
      receivers[c]->decode(bytes, decoded);
      receivers[c]->received(bytes, decoded);
      for (std::size_t i = 0; i < kCount; ++i) mean[i] += decoded[i] / kClients;
    }
    for (std::size_t i = 0; i < kCount; ++i) x[i] += mean[i];
  }
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    error += std::pow(x[i] - target[i], 2);
    norm += std::pow(target[i], 2);
  }
  return std::sqrt(error / norm);
}

}  // namespace fedctl::test
