#include "methods/detail/local.hpp"

#include <algorithm>

#include "methods/detail/states.hpp"

namespace fedctl::methods {

learn::TrainReport LocalTraining::train(const char* name, std::int64_t round, std::int64_t steps,
                                        ClientContext& ctx) {
  learn::TrainReport report{.examples = static_cast<std::int64_t>(ctx.train.size())};
  if (steps == 0) return report;
  learn::LearnerPool::Lease learner = ctx.learners.acquire();
  std::ranges::copy(weights_, learner->weights().begin());
  learn::TrainOptions options = plan_.train;
  options.steps = steps;
  report = learn::train(*learner, ctx.data, ctx.train, options, {}, ctx.rng.stream(name, round),
                        {std::min(round, plan_.rounds), plan_.rounds}, *optimizer_);
  std::ranges::copy(learner->weights(), weights_.begin());
  return report;
}

void LocalTraining::save(Message& state) const {
  if (weights_.empty()) return;
  state.tensors.emplace("local", Tensor::of(weights_, {}));
  state.scalars.emplace("optimizer_steps", std::int64_t{optimizer_->steps()});
  std::size_t number = 0;
  for (const std::span<const float> vector : optimizer_->memory()) {
    state.tensors.emplace("optimizer." + std::to_string(number++), Tensor::of(vector, {}));
  }
}

void LocalTraining::load(const Message& state) {
  weights_ = floats_in(state, "local", plan_.layout.size());
  if (weights_.empty()) return;
  optimizer_->set_steps(static_cast<int>(
      wire::Expect(state, "state").integer("optimizer_steps", 0, std::numeric_limits<int>::max())));
  std::size_t number = 0;
  for (const std::span<float> vector : optimizer_->memory()) {
    const std::string name = "optimizer." + std::to_string(number++);
    const std::vector<float> kept = floats_in(state, name.c_str(), vector.size());
    if (kept.empty()) throw WireError("\"state\" has no \"" + name + '"');
    std::ranges::copy(kept, vector.begin());
  }
}

}  // namespace fedctl::methods
