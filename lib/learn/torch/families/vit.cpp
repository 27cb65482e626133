// vit: Vision Transformer (Dosovitskiy et al. 2021), pre-norm, class token, learned positions; parameter names of HF's
// ViTForImageClassification. Soft prompt tokens stand between the class token and the patches.
#include "learn/torch/families/families.hpp"

namespace fedctl::learn {
namespace {

constexpr double kNormEps = 1e-12;

struct Norm {
  torch::Tensor weight, bias;
  Norm() = default;
  Norm(Builder& builder, const std::string& name, std::int64_t width)
      : weight(builder.parameter(name + ".weight", {width}, Init::ones())),
        bias(builder.parameter(name + ".bias", {width}, Init::zeros())) {}
  torch::Tensor operator()(const torch::Tensor& x) const {
    return torch::layer_norm(x, {x.size(-1)}, weight, bias, kNormEps);
  }
};

struct Block {
  Norm before, after;
  AdaptableLinear query, key, value, output, fc1, fc2;

  Block(Builder& builder, const std::string& name, std::int64_t width, std::int64_t mlp)
      : before(builder, name + ".layernorm_before", width),
        after(builder, name + ".layernorm_after", width),
        query(builder.linear(name + ".attention.attention.query", "query", width, width, true)),
        key(builder.linear(name + ".attention.attention.key", "key", width, width, true)),
        value(builder.linear(name + ".attention.attention.value", "value", width, width, true)),
        output(builder.linear(name + ".attention.output.dense", "output", width, width, true)),
        fc1(builder.linear(name + ".intermediate.dense", "fc1", width, mlp, true)),
        fc2(builder.linear(name + ".output.dense", "fc2", mlp, width, true)) {}

  torch::Tensor operator()(const torch::Tensor& x, std::int64_t heads) const {
    const torch::Tensor y = before(x);
    const torch::Tensor mixed = attention(split_heads(query(y), heads), split_heads(key(y), heads),
                                          split_heads(value(y), heads), {});
    const torch::Tensor z = x + output(mixed);
    return z + fc2(torch::gelu(fc1(after(z))));
  }
};

class Vit final : public Family {
 public:
  Vit(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) : info_(spec.data) {
    const auto& options = spec.model.as<VitOptions>();
    const auto number = [&](const char* key, std::int64_t otherwise) {
      return file != nullptr ? file->integer(key, 1, 1 << 16) : otherwise;
    };
    patch_ = number("patch_size", options.patch);
    width_ = number("hidden_size", options.width);
    heads_ = number("num_attention_heads", options.heads);
    mlp_ = number("intermediate_size", options.mlp);
    const std::int64_t depth = number("num_hidden_layers", options.depth);
    if (info_.input_shape.size() != 3) throw DataError("a vit reads images, this data has none");
    channels_ = info_.input_shape[0];
    side_ = info_.input_shape[1];
    if (side_ != info_.input_shape[2] || side_ % patch_ != 0) {
      throw ConfigError("model.patch is " + std::to_string(patch_) + ", the images are " + to_string(info_.input_shape) +
                        ": they must be square and a multiple of it");
    }
    if (width_ % heads_ != 0) {
      throw ConfigError("model.heads is " + std::to_string(heads_) + ", must divide model.width, " + std::to_string(width_));
    }
    const std::int64_t patches = (side_ / patch_) * (side_ / patch_), inputs = channels_ * patch_ * patch_;
    const std::string top = "vit.embeddings.";
    class_token_ = builder.parameter(top + "cls_token", {1, 1, width_}, Init::normal(0.02));
    positions_ = builder.parameter(top + "position_embeddings", {1, patches + 1, width_}, Init::normal(0.02));
    patch_weight_ = builder.parameter(top + "patch_embeddings.projection.weight", {width_, channels_, patch_, patch_},
                                      Init::uniform(1.0 / std::sqrt(static_cast<double>(inputs))));
    patch_bias_ = builder.parameter(top + "patch_embeddings.projection.bias", {width_}, Init::zeros());
    if (const std::int64_t tokens = builder.adapter().prompt_tokens(); tokens > 0) {
      prompt_ = builder.trainable("prompt_embeddings", "prompt", {tokens, width_}, Init::normal(0.02));
    }
    for (std::int64_t i = 0; i < depth; ++i) {
      blocks_.emplace_back(builder, "vit.encoder.layer." + std::to_string(i), width_, mlp_);
    }
    norm_ = Norm(builder, "vit.layernorm", width_);
    head_ = builder.head("classifier", width_, static_cast<std::int64_t>(info_.classes.size()),
                         file != nullptr && file->classes() == info_.classes);
  }

  torch::Tensor logits(const data::Batch& batch) const override {
    const torch::Tensor pixels = view_of(image_of(batch));
    const std::int64_t n = pixels.size(0), grid = side_ / patch_;
    // (n, c, grid, p, grid, p) -> (n, grid * grid, c * p * p): a convolution with stride p as one matrix product.
    const torch::Tensor cut = pixels.view({n, channels_, grid, patch_, grid, patch_})
                                  .permute({0, 2, 4, 1, 3, 5})
                                  .reshape({n, grid * grid, channels_ * patch_ * patch_});
    const torch::Tensor patches = torch::linear(cut, patch_weight_.flatten(1), patch_bias_);
    const torch::Tensor positions = positions_;
    std::vector<torch::Tensor> parts{(class_token_ + positions.narrow(1, 0, 1)).expand({n, 1, width_})};
    if (prompt_.defined()) parts.push_back(prompt_.unsqueeze(0).expand({n, prompt_.size(0), width_}));
    parts.push_back(patches + positions.narrow(1, 1, grid * grid));
    torch::Tensor x = torch::cat(parts, 1);
    for (const Block& block : blocks_) x = block(x, heads_);
    return head_(norm_(x.select(1, 0)));
  }
  void check(const data::Batch& batch) const override { check_images(batch, info_); }
  std::string config_json() const override {
    return R"({"model_type":"vit","architectures":["ViTForImageClassification"],"hidden_size":)" + std::to_string(width_) +
           R"(,"num_hidden_layers":)" + std::to_string(blocks_.size()) + R"(,"num_attention_heads":)" +
           std::to_string(heads_) + R"(,"intermediate_size":)" + std::to_string(mlp_) +
           R"(,"hidden_act":"gelu","layer_norm_eps":1e-12,"image_size":)" + std::to_string(side_) +
           R"(,"patch_size":)" + std::to_string(patch_) + R"(,"num_channels":)" + std::to_string(channels_) +
           R"(,"qkv_bias":true,"id2label":)" + class_names_json(info_.classes) + '}';
  }
  const char* task_type() const override { return "SEQ_CLS"; }

 private:
  data::DatasetInfo info_;
  std::int64_t patch_ = 0, width_ = 0, heads_ = 0, mlp_ = 0, channels_ = 0, side_ = 0;
  torch::Tensor class_token_, positions_, patch_weight_, patch_bias_, prompt_;
  std::vector<Block> blocks_;
  Norm norm_;
  AdaptableLinear head_;
};

}  // namespace

std::unique_ptr<Family> make_vit(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) {
  return std::make_unique<Vit>(spec, builder, file);
}

}  // namespace fedctl::learn
