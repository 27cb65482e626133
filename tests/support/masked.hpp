// A toy problem under secure aggregation, and what its sums must be.
#pragma once

#include <set>

#include "methods/detail/masked.hpp"
#include "support/play.hpp"

namespace fedctl::test {

using namespace methods;

inline double pull(PeerId id, std::span<const float> w, std::span<float> slope) {
  Rng rng = Rng(51).stream("optimum", id);
  double loss = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    const double away = w[j] - rng.normal();
    if (!slope.empty()) slope[j] = static_cast<float>(away);
    loss += 0.5 * away * away;
  }
  return loss;
}

inline Game masked_game(const Problem& problem, const char* method = "fedavg") {
  Game game = problem.game(method);
  game.plan.rounds = 1;
  game.plan.secure.on = true;
  game.plan.secure.examples_max = 1;
  return game;
}

// One step of rate 0.1 from 0 by these clients, through integers as the clients round them.
inline std::vector<float> expected(const Game& game, const std::vector<PeerId>& clients) {
  const std::size_t size = game.plan.layout.size();
  JobPlan plan = game.plan;
  plan.common = Rng(1).stream("common");
  const MaskedForm form(plan, 1);
  std::vector<std::uint32_t> sums(form.count(size));
  for (const PeerId id : clients) {
    const std::vector<float> zero(size);
    std::vector<float> slope(size), delta(size);
    const double loss = pull(id, zero, slope);
    for (std::size_t j = 0; j < size; ++j) delta[j] = 0.0F - 0.1F * slope[j];
    const Message update = Message("update")
                               .with("examples", std::int64_t{1})
                               .with("loss", loss)
                               .with("delta", Tensor::of(delta, {}));
    const std::vector<std::uint32_t> words =
        form.words(update, Rng(1).stream("client", id).stream("masked", 1));
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += words[i];
  }
  const Message like =
      Message("update").with("delta", Tensor::zeros(DType::f32, {static_cast<std::int64_t>(size)}));
  const Message mean_update = form.mean(sums, clients.size(), like);
  const auto mean = mean_update.tensors.at("delta").f32();
  return {mean.begin(), mean.end()};
}

inline std::vector<PeerId> all_but(std::int64_t clients, const std::set<PeerId>& gone) {
  std::vector<PeerId> left;
  for (PeerId id = 0; id < clients; ++id) {
    if (!gone.contains(id)) left.push_back(id);
  }
  return left;
}

}  // namespace fedctl::test
