// kwt: Keyword Transformer (Berg, O'Connor, Cruz, Interspeech 2021, arXiv 2104.00769): frames of
// MFCC features as tokens, class token, learned positions, post-norm blocks with tanh-GELU, no bias
// on query, key and value. Inputs: features [frames,coefficients], or raw audio [samples] through
// the front end of the model's file. Parameter names of the project's KWT-1 file. Soft prompt
// tokens stand between the class token and the frames. No distillation token.
#include "learn/torch/convert.hpp"
#include "learn/torch/families/encoder.hpp"
#include "learn/torch/families/families.hpp"
#include "learn/torch/families/mfcc.hpp"
#include "learn/torch/ops.hpp"

namespace fedctl::learn {
namespace {

struct Dimensions {
  std::int64_t frames, coefficients, width, depth, heads, mlp;
  double eps;
  bool raw;                             // inputs are samples
  std::optional<Mfcc::Sizes> frontend;  // of the file
};

[[noreturn]] void fail_inputs(const LearnerSpec& spec, const std::string& expected,
                              const std::string& hint) {
  throw ConfigError("model.kind is kwt and data.kind's inputs are " +
                        to_string(spec.data.input_shape) + ", expected " + expected,
                    hint);
}

// Fits the file's dimensions and those of the data together.
void match_inputs(const LearnerSpec& spec, const Dimensions& d) {
  const Shape& input = spec.data.input_shape;
  if (!d.raw) {
    if (input == Shape{d.frames, d.coefficients}) return;
    fail_inputs(spec, "the model's " + to_string({d.frames, d.coefficients}),
                "features must be made as the model's were");
  }
  if (!d.frontend) fail_inputs(spec, "features: the model's file has no front end", "");
  const std::int64_t frames = Mfcc::frames(*d.frontend, input[0]);
  if (frames != d.frames) {
    fail_inputs(
        spec,
        "samples for " + std::to_string(d.frames) + " frames, these make " + std::to_string(frames),
        "cut or pad the clips");
  }
}

Dimensions read_dimensions(const LearnerSpec& spec, const Checkpoint* file) {
  require_images(spec, 0);
  const Shape& input = spec.data.input_shape;
  if (input.size() > 2) fail_inputs(spec, "[frames,coefficients] or [samples]", "");
  const auto& options = spec.model.as<KwtOptions>();
  const bool raw = input.size() == 1;
  Dimensions d{input.front(), input.back(),  options.width,
               options.depth, options.heads, options.mlp,
               1e-6,          raw,           {}};
  if (file != nullptr) {
    file->require_text("model_type", "kwt");
    d.frames = file->integer("num_frames", 1, 1 << 16);
    d.coefficients = file->integer("num_coefficients", 1, 1 << 14);
    d.width = file->integer("hidden_size", 1, 1 << 14);
    d.depth = file->integer("num_hidden_layers", 1, 1 << 10);
    d.heads = file->integer("num_attention_heads", 1, 1 << 10);
    d.mlp = file->integer("intermediate_size", 1, 1 << 16);
    d.eps = file->real_or("layer_norm_eps", 1e-6, 0, 1);
    d.frontend = Mfcc::sizes(*file, d.coefficients);
    match_inputs(spec, d);
  } else if (raw) {
    fail_inputs(spec, "[frames,coefficients]",
                "raw audio needs a model file with its front end: set model.path");
  }
  if (d.width % d.heads != 0) {
    const std::string what = "heads is " + std::to_string(d.heads) + ", must divide the width, " +
                             std::to_string(d.width);
    if (file != nullptr) throw DataError(file->path() + ": num_attention_" + what);
    throw ConfigError("model." + what);
  }
  return d;
}

// y = norm1(x + attention(x)), then norm2(y + mlp(y)); one row a token.
struct Block {
  AdaptableLinear query, key, value, output, fc1, fc2;
  LayerNorm norm1, norm2;

  Block(Builder& builder, const std::string& name, const Dimensions& d) {
    const auto square = [&](const char* module, const char* target, bool bias) {
      return builder.linear(name + module, target, d.width, d.width, bias);
    };
    query = square(".attn.q", "query", false);
    key = square(".attn.k", "key", false);
    value = square(".attn.v", "value", false);
    output = square(".attn.proj", "output", true);
    fc1 = builder.linear(name + ".mlp.fc1", "fc1", d.width, d.mlp, true);
    fc2 = builder.linear(name + ".mlp.fc2", "fc2", d.mlp, d.width, true);
    norm1 = LayerNorm(builder, name + ".norm1", d.width, d.eps);
    norm2 = LayerNorm(builder, name + ".norm2", d.width, d.eps);
  }

  at::Tensor mix(const at::Tensor& x, const ops::AttentionOptions& options) const {
    return ops::attention(query(x), key(x), value(x), options);
  }
  at::Tensor feed(const at::Tensor& x, const at::Tensor& mixed) const {
    const at::Tensor y = norm1(output.onto(x, mixed));
    return norm2(fc2.onto(y, at::gelu(fc1(y), "tanh")));
  }
};

class Kwt final : public PartedFamily {
 public:
  Kwt(const LearnerSpec& spec, Builder& builder, const Checkpoint* file)
      : info_(spec.data), d_(read_dimensions(spec, file)) {
    patch_weight_ = builder.parameter("patch.weight", {d_.width, d_.coefficients},
                                      Init::linear(d_.coefficients));
    patch_bias_ = builder.parameter("patch.bias", {d_.width}, Init::zeros());
    sequence_ =
        ClassSequence(builder, "cls_token", "pos_embed", {d_.frames, d_.width, d_.coefficients});
    prefix_ = builder.prefix(d_.depth, d_.heads, d_.width);
    for (std::int64_t i = 0; i < d_.depth; ++i) {
      blocks_.emplace_back(builder, "blocks." + std::to_string(i), d_);
    }
    head_ = builder.head("head", d_.width, static_cast<std::int64_t>(info_.classes.size()),
                         file != nullptr && file->classes() == info_.classes);
    // Also where features come in: a saved model keeps its front end.
    if (d_.frontend) frontend_.emplace(builder, *d_.frontend);
  }

  std::int64_t block_count() const override { return d_.depth; }
  Input input_of(std::int64_t index) const override {
    const std::int64_t length = index < d_.depth ? sequence_.length() : 1;
    return {d_.width, length, length};
  }

  PartState embed(const data::Batch& batch) const override {
    at::Tensor x = view_of(image_of(batch));
    if (d_.raw) x = (*frontend_)(x);
    return sequence_(at::linear(x.flatten(0, 1), patch_weight_, patch_bias_));
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

  at::Tensor head(const PartState& state) const override { return head_(state.rows); }

  void check(const data::Batch& batch) const override { check_images(batch, info_); }

  std::string config_json() const override {
    std::vector<std::pair<std::string, std::string>> members = {
        {"model_type", json_of("kwt")},
        {"hidden_size", std::to_string(d_.width)},
        {"num_hidden_layers", std::to_string(d_.depth)},
        {"num_attention_heads", std::to_string(d_.heads)},
        {"intermediate_size", std::to_string(d_.mlp)},
        {"num_frames", std::to_string(d_.frames)},
        {"num_coefficients", std::to_string(d_.coefficients)},
        {"layer_norm_eps", json_of(d_.eps)}};
    if (d_.frontend) {
      members.emplace_back("frame_samples", std::to_string(d_.frontend->samples));
      members.emplace_back("dft_bins", std::to_string(d_.frontend->bins));
      members.emplace_back("mel_bins", std::to_string(d_.frontend->mels));
    }
    for (auto& member : json_of_classes(info_.classes)) members.push_back(std::move(member));
    return json_object(members);
  }

  std::string settings() const override {
    return "kwt heads " + std::to_string(d_.heads) + " eps " + json_of(d_.eps);
  }

 private:
  data::DatasetInfo info_;
  Dimensions d_;
  at::Tensor patch_weight_, patch_bias_;
  ClassSequence sequence_;
  Prefix prefix_;
  std::vector<Block> blocks_;
  AdaptableLinear head_;
  std::optional<Mfcc> frontend_;
};

}  // namespace

std::unique_ptr<Family> make_kwt(const LearnerSpec& spec, Builder& builder,
                                 const Checkpoint* file) {
  return std::make_unique<Kwt>(spec, builder, file);
}

}  // namespace fedctl::learn
