// PartRunner: the parts of a model on host tensors, as Learner::forward() and backward() say. Keeps
// the graph of each part's last forward() until its backward().
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

class PartRunner {
 public:
  // The family must outlive it.
  explicit PartRunner(const PartedFamily& family) : family_(family) {}

  std::vector<std::string> names() const;
  TensorMap forward(std::string_view part, const TensorMap& inputs);
  TensorMap backward(std::string_view part, const TensorMap& output_gradients);

 private:
  struct Call {
    TensorMap inputs;         // what the graph looks at
    at::Tensor rows, output;  // the graph's ends; rows undefined for embed
  };
  // -1 for embed, block_count() for head. Throws ConfigError if there is no such part.
  std::int64_t index_of(std::string_view part) const;
  PartState state_of(std::string_view part, std::int64_t index, const TensorMap& inputs) const;

  const PartedFamily& family_;
  std::map<std::string, Call, std::less<>> calls_;
};

}  // namespace fedctl::learn
