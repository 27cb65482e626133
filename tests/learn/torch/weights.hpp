// Learners' weights and gradients by name.
#pragma once

#include "learn/torch/model_files.hpp"

namespace fedctl::test {

inline std::unique_ptr<learn::Learner> make(const learn::LearnerSpec& spec) {
  return learn::make_factory(spec)->make();
}

inline std::vector<float> values(learn::Learner& learner, const std::string& name) {
  const Block& block = learner.layout().block(name);
  return copy(learner.weights().subspan(block.offset, block.count));
}
inline void set(learn::Learner& learner, const std::string& name, const std::vector<float>& values) {
  const Block& block = learner.layout().block(name);
  REQUIRE(values.size() == block.count);
  std::ranges::copy(values, learner.weights().subspan(block.offset, block.count).begin());
}
inline std::vector<float> gradient(learn::Learner& learner, const std::string& name) {
  const Block& block = learner.layout().block(name);
  return copy(learner.gradient().subspan(block.offset, block.count));
}
inline bool has(learn::Learner& learner, const std::string& name) {
  return std::ranges::any_of(learner.layout().blocks(),
                             [&](const Block& block) { return block.name == name; });
}

inline void require_close(std::span<const float> found, std::span<const float> expected, double margin) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE(found[i] == Approx(expected[i]).margin(margin).epsilon(margin));
  }
}

inline learn::LoraOptions& lora(learn::LearnerSpec& spec) {
  return dynamic_cast<learn::LoraOptions&>(*spec.adapter.options);
}

}  // namespace fedctl::test
