// What lora and dora share: the pair A, B of a layer, its scale and its dropout.
#pragma once

#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {

// scale * B A x, A in R^{r x in}, B in R^{out x r}.
struct LowRank {
  at::Tensor a, b;
  double scale = 0, dropout = 0;
  std::shared_ptr<Noise> noise;

  // A x for the rows of x. In training, entries of x are zero with probability `dropout` and
  // divided by 1 - dropout otherwise (Srivastava et al., JMLR 2014, inverted).
  at::Tensor inner(const at::Tensor& x) const;
  // W + scale * B A, summed in double precision and rounded once.
  at::Tensor added_to(const at::Tensor& weight) const;
};

class LowRankAdapter : public Adapter {
 public:
  explicit LowRankAdapter(const LoraOptions& options)
      : options_(options), rules_(rank_rules(options)) {}
  bool trains_head() const override { return options_.train_head; }
  bool has_dropout() const override { return options_.dropout > 0; }
  std::shared_ptr<const Delta> adapt(Builder& builder, const Site& site) const final;
  void complete(Builder& builder) const override;
  JsonMembers peft_config(const PeftContext& context) const override;

 protected:
  virtual std::shared_ptr<const Delta> hang(Builder& builder, const Site& site,
                                            LowRank pair) const = 0;

 private:
  RankRule rule_for(const std::string& module, const std::string& target) const;

  LoraOptions options_;
  std::vector<RankRule> rules_;
};

}  // namespace fedctl::learn
