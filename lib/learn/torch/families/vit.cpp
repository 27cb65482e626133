// vit: Vision Transformer (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929), pre-norm, class token,
// learned positions; parameter names of HF's ViTForImageClassification. Soft prompt tokens stand
// between the class token and the patches and have no position.
#include "learn/torch/convert.hpp"
#include "learn/torch/families/encoder.hpp"
#include "learn/torch/families/families.hpp"
#include "learn/torch/ops.hpp"

namespace fedctl::learn {
namespace {

struct Dimensions {
  std::int64_t channels, rows, columns;  // of the image
  std::int64_t patch, width, depth, heads, mlp;
  double eps;

  std::int64_t patches() const { return rows / patch * (columns / patch); }
  std::int64_t patch_inputs() const { return channels * patch * patch; }
};

Dimensions read_dimensions(const LearnerSpec& spec, const Checkpoint* file) {
  require_images(spec, 3);
  const Shape& image = spec.data.input_shape;
  const auto& options = spec.model.as<VitOptions>();
  Dimensions d{image[0],      image[1],      image[2],    options.patch, options.width,
               options.depth, options.heads, options.mlp, 1e-12};
  if (file != nullptr) {
    file->require_text("model_type", "vit");
    file->require_text("hidden_act", "gelu");
    d.patch = file->integer(file->has("patch_size.0") ? "patch_size.0" : "patch_size", 1, 1 << 12);
    d.width = file->integer("hidden_size", 1, 1 << 14);
    d.depth = file->integer("num_hidden_layers", 1, 1 << 10);
    d.heads = file->integer("num_attention_heads", 1, 1 << 10);
    d.mlp = file->integer("intermediate_size", 1, 1 << 16);
    d.eps = file->real_or("layer_norm_eps", 1e-12, 0, 1);
  }
  if (d.rows % d.patch != 0 || d.columns % d.patch != 0) {
    throw ConfigError("model.patch is " + std::to_string(d.patch) + " and the images are " +
                      to_string(image) + ": their sides must be multiples of it");
  }
  if (d.width % d.heads != 0) {
    const std::string what = "heads is " + std::to_string(d.heads) + ", must divide the width, " +
                             std::to_string(d.width);
    if (file != nullptr) throw DataError(file->path() + "/config.json: num_attention_" + what);
    throw ConfigError("model." + what);
  }
  return d;
}

// x + attention(norm x), then x + mlp(norm x); one row a token.
struct Block {
  LayerNorm before, after;
  AdaptableLinear query, key, value, output, fc1, fc2;

  Block(Builder& builder, const std::string& name, const Dimensions& d)
      : before(builder, name + ".layernorm_before", d.width, d.eps),
        after(builder, name + ".layernorm_after", d.width, d.eps) {
    const auto square = [&](const char* module, const char* target) {
      return builder.linear(name + module, target, d.width, d.width, true);
    };
    query = square(".attention.attention.query", "query");
    key = square(".attention.attention.key", "key");
    value = square(".attention.attention.value", "value");
    output = square(".attention.output.dense", "output");
    fc1 = builder.linear(name + ".intermediate.dense", "fc1", d.width, d.mlp, true);
    fc2 = builder.linear(name + ".output.dense", "fc2", d.mlp, d.width, true);
  }

  at::Tensor mix(const at::Tensor& x, const ops::AttentionOptions& options) const {
    const at::Tensor y = before(x);
    return ops::attention(query(y), key(y), value(y), options);
  }
  at::Tensor feed(const at::Tensor& x, const at::Tensor& mixed) const {
    const at::Tensor z = output.onto(x, mixed);
    return fc2.onto(z, at::gelu(fc1(after(z))));
  }
};

class Vit final : public PartedFamily {
 public:
  Vit(const LearnerSpec& spec, Builder& builder, const Checkpoint* file)
      : info_(spec.data), d_(read_dimensions(spec, file)) {
    const std::string top = "vit.embeddings.";
    sequence_ = ClassSequence(builder, top + "cls_token", top + "position_embeddings",
                              {d_.patches(), d_.width, d_.patch_inputs()});
    patch_weight_ = builder.parameter(top + "patch_embeddings.projection.weight",
                                      {d_.width, d_.channels, d_.patch, d_.patch},
                                      Init::linear(d_.patch_inputs()));
    patch_bias_ =
        builder.parameter(top + "patch_embeddings.projection.bias", {d_.width}, Init::zeros());
    prefix_ = builder.prefix(d_.depth, d_.heads, d_.width);
    for (std::int64_t i = 0; i < d_.depth; ++i) {
      blocks_.emplace_back(builder, "vit.encoder.layer." + std::to_string(i), d_);
    }
    norm_ = LayerNorm(builder, "vit.layernorm", d_.width, d_.eps);
    head_ = builder.head("classifier", d_.width, static_cast<std::int64_t>(info_.classes.size()),
                         file != nullptr && file->classes() == info_.classes);
  }

  std::int64_t block_count() const override { return d_.depth; }
  Input input_of(std::int64_t index) const override {
    const std::int64_t length = index < d_.depth ? sequence_.length() : 1;
    return {d_.width, length, length};
  }

  PartState embed(const data::Batch& batch) const override {
    const at::Tensor pixels = view_of(image_of(batch));
    const std::int64_t n = pixels.size(0), down = d_.rows / d_.patch,
                       across = d_.columns / d_.patch;
    // (n, c, down, p, across, p) -> (n * patches, c * p * p): a convolution whose stride is its
    // side is one matrix product.
    const at::Tensor cut = pixels.view({n, d_.channels, down, d_.patch, across, d_.patch})
                               .permute({0, 2, 4, 1, 3, 5})
                               .reshape({n * down * across, d_.patch_inputs()});
    return sequence_(at::linear(cut, patch_weight_.flatten(1), patch_bias_));
  }

  PartState block(std::int64_t index, const PartState& state) const override {
    const Block& block = blocks_[static_cast<std::size_t>(index)];
    const ops::AttentionOptions options{
        state.lengths,        d_.heads, d_.heads, false, {}, {}, prefix_.keys(index),
        prefix_.values(index)};
    const PartState mixed{block.mix(state.rows, options), state.lengths};
    if (index + 1 < d_.depth) return {block.feed(state.rows, mixed.rows), state.lengths};
    // Only the class token is read at the end, so the last block feeds no other row forward.
    return {block.feed(class_rows(state), class_rows(mixed)),
            std::vector<std::int64_t>(state.lengths.size(), 1)};
  }

  at::Tensor head(const PartState& state) const override { return head_(norm_(state.rows)); }

  void check(const data::Batch& batch) const override { check_images(batch, info_); }

  std::string config_json() const override {
    const bool square = d_.rows == d_.columns;
    const std::string rows = std::to_string(d_.rows), columns = std::to_string(d_.columns);
    std::vector<std::pair<std::string, std::string>> members = {
        {"architectures", R"(["ViTForImageClassification"])"},
        {"model_type", json_of("vit")},
        {"hidden_size", std::to_string(d_.width)},
        {"num_hidden_layers", std::to_string(d_.depth)},
        {"num_attention_heads", std::to_string(d_.heads)},
        {"intermediate_size", std::to_string(d_.mlp)},
        {"hidden_act", json_of("gelu")},
        {"hidden_dropout_prob", "0.0"},
        {"attention_probs_dropout_prob", "0.0"},
        {"layer_norm_eps", json_of(d_.eps)},
        {"image_size", square ? rows : '[' + rows + ',' + columns + ']'},
        {"patch_size", std::to_string(d_.patch)},
        {"num_channels", std::to_string(d_.channels)},
        {"qkv_bias", "true"}};
    for (auto& member : json_of_classes(info_.classes)) members.push_back(std::move(member));
    return json_object(members);
  }

  std::string settings() const override {
    return "vit heads " + std::to_string(d_.heads) + " eps " + json_of(d_.eps);
  }

 private:
  data::DatasetInfo info_;
  Dimensions d_;
  ClassSequence sequence_;
  Prefix prefix_;
  at::Tensor patch_weight_, patch_bias_;
  std::vector<Block> blocks_;
  LayerNorm norm_;
  AdaptableLinear head_;
};

}  // namespace

std::unique_ptr<Family> make_vit(const LearnerSpec& spec, Builder& builder,
                                 const Checkpoint* file) {
  return std::make_unique<Vit>(spec, builder, file);
}

}  // namespace fedctl::learn
