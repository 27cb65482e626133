// Low-rank pairs: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, arXiv
// 2106.09685, section 4.1; rslora: Kalajdzievski 2023, arXiv 2312.03732.
//
//   scale = alpha / r, or alpha / sqrt(r) with rslora
//
// A starts uniform in (-1/sqrt(in), 1/sqrt(in)) (the LoRA library's Kaiming-uniform with a =
// sqrt(5)), B at zero. Each A has a stream of its own, named by its module.
#include "learn/torch/adapters/low_rank.hpp"

#include <cmath>

#include "learn/torch/convert.hpp"

namespace fedctl::learn {
namespace {

constexpr const char* kA = ".lora_A.weight";

at::Tensor drop(const at::Tensor& x, double share, Rng& rng) {
  at::Tensor mask = at::empty_like(x, at::MemoryFormat::Contiguous);
  const auto kept = static_cast<float>(1 / (1 - share));
  const auto limit = static_cast<float>(share);
  for (float& value : values_of(mask)) value = rng.uniform() < limit ? 0 : kept;
  return x * mask;
}

}  // namespace

at::Tensor LowRank::inner(const at::Tensor& x) const {
  const bool drops = dropout > 0 && noise->training;
  return (drops ? drop(x, dropout, noise->rng) : x).mm(a.t());
}

at::Tensor LowRank::added_to(const at::Tensor& weight) const {
  return b.to(at::kDouble).mm(a.to(at::kDouble)).mul_(scale).add_(weight);
}

RankRule LowRankAdapter::rule_for(const std::string& module, const std::string& target) const {
  for (const RankRule& rule : rules_) {
    if (fits(rule.target, module, target)) return rule;
  }
  return {target, options_.rank, options_.alpha};
}

std::shared_ptr<const Delta> LowRankAdapter::adapt(Builder& builder, const Site& site) const {
  if (!targeted(options_.targets, site)) return nullptr;
  const RankRule rule = rule_for(site.module, site.target);
  const auto rank = static_cast<double>(rule.rank);
  LowRank pair;
  pair.a =
      builder.trainable(site.module + kA, "adapter", {rule.rank, site.in}, Init::linear(site.in));
  pair.b = builder.trainable(site.module + ".lora_B.weight", "adapter", {site.out, rule.rank},
                             Init::zeros());
  pair.scale = rule.alpha / (options_.rslora ? std::sqrt(rank) : rank);
  pair.dropout = options_.dropout;
  pair.noise = builder.noise();
  return hang(builder, site, std::move(pair));
}

void LowRankAdapter::complete(Builder& builder) const {
  require_matches(builder, "targets", options_.targets);
  std::vector<std::string> ruled;
  for (const RankRule& rule : rules_) ruled.push_back(rule.target);
  require_matches(builder, "ranks", ruled);
}

JsonMembers LowRankAdapter::peft_config(const PeftContext& context) const {
  JsonMembers ranks, alphas;
  for (const Adapted& layer : context.adapted) {
    const RankRule rule = rule_for(layer.module, layer.target);
    const std::string name = context.name(layer.module);
    if (rule.rank != options_.rank) ranks.emplace_back(name, std::to_string(rule.rank));
    if (rule.alpha != options_.alpha) alphas.emplace_back(name, json_of(rule.alpha));
  }
  return {{"peft_type", json_of("LORA")},
          {"r", std::to_string(options_.rank)},
          {"lora_alpha", json_of(options_.alpha)},
          {"lora_dropout", json_of(options_.dropout)},
          {"use_rslora", options_.rslora ? "true" : "false"},
          {"rank_pattern", json_object(ranks)},
          {"alpha_pattern", json_object(alphas)},
          {"bias", json_of("none")},
          {"target_modules", adapted_endings(context)}};
}

}  // namespace fedctl::learn
