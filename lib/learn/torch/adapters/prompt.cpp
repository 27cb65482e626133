// prompt: Lester, Al-Rfou, Constant, "The power of scale for parameter-efficient prompt tuning",
// EMNLP 2021, arXiv 2104.08691; for images Jia et al., "Visual prompt tuning", ECCV 2022, arXiv
// 2203.12119, "shallow": trainable embeddings in front of the sequence. The families place them and
// choose what they start from; see vit.cpp and llama.cpp.
#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {
namespace {

class Prompt final : public Adapter {
 public:
  explicit Prompt(const PromptOptions& options) : options_(options) {}
  bool trains_head() const override { return options_.train_head; }
  std::int64_t prompt_tokens() const override { return options_.tokens; }

  JsonMembers peft_config(const PeftContext& context) const override {
    const Block& block = context.layout.block("prompt_embeddings");
    return {{"peft_type", json_of("PROMPT_TUNING")},
            {"prompt_tuning_init", json_of("RANDOM")},
            {"num_virtual_tokens", std::to_string(options_.tokens)},
            {"token_dim", std::to_string(block.shape[1])},
            {"num_transformer_submodules", "1"}};
  }

 private:
  PromptOptions options_;
};

}  // namespace

std::unique_ptr<Adapter> make_prompt(const config::Options& options) {
  return std::make_unique<Prompt>(dynamic_cast<const PromptOptions&>(options));
}

}  // namespace fedctl::learn
