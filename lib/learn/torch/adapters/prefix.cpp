// prefix: Li and Liang, "Prefix-tuning: optimizing continuous prompts for generation", ACL 2021,
// arXiv 2101.00190, without the reparametrisation (section 4.3): keys and values of `tokens`
// positions in front of every sequence, trained for each attention layer. They are not rotated, and
// the text's positions start behind them, as PEFT and transformers have it.
#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {
namespace {

class PrefixTuning final : public Adapter {
 public:
  explicit PrefixTuning(const PrefixOptions& options) : options_(options) {}
  bool trains_head() const override { return options_.train_head; }
  std::int64_t prefix_tokens() const override { return options_.tokens; }

  void complete(Builder& builder) const override {
    if (builder.prefix_made().tokens > 0) return;
    throw ConfigError("adapter.kind is prefix: this model's attention takes no prefix",
                      "use prompt or lora");
  }

  JsonMembers peft_config(const PeftContext& context) const override {
    return {{"peft_type", json_of("PREFIX_TUNING")},
            {"prefix_projection", "false"},
            {"num_virtual_tokens", std::to_string(options_.tokens)},
            {"num_layers", std::to_string(context.prefix.depth)},
            {"num_attention_heads", std::to_string(context.prefix.heads)},
            {"token_dim", std::to_string(context.prefix.width)},
            {"encoder_hidden_size", std::to_string(context.prefix.width)},
            {"num_transformer_submodules", "1"}};
  }

 private:
  PrefixOptions options_;
};

}  // namespace

std::unique_ptr<Adapter> make_prefix(const config::Options& options) {
  return std::make_unique<PrefixTuning>(dynamic_cast<const PrefixOptions&>(options));
}

}  // namespace fedctl::learn
