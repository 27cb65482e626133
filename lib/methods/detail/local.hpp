// A client that trains on between rounds: its weights and its optimizer live as long as the job.
#pragma once

#include <memory>
#include <vector>

#include "methods/method.hpp"

namespace fedctl::methods {

class LocalTraining {
 public:
  explicit LocalTraining(const JobPlan& plan)
      : plan_(plan), optimizer_(learn::make_optimizer(plan.train, plan.layout)) {}

  std::vector<float>& weights() { return weights_; }  // empty at first
  std::span<const float> weights() const { return weights_; }
  // So many steps on weights(), as of that round. `name` names the order of the batches.
  learn::TrainReport train(const char* name, std::int64_t round, std::int64_t steps,
                           ClientContext& ctx);

  void save(Message& state) const;
  void load(const Message& state);  // throws WireError

 private:
  const JobPlan& plan_;
  std::unique_ptr<learn::Optimizer> optimizer_;
  std::vector<float> weights_;
};

}  // namespace fedctl::methods
