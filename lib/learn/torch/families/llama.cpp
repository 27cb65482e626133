// llama: decoder language model of the Llama 2 layout (Touvron et al. 2023): RMSNorm, rotary positions (halves rotate, as
// in HF; Su et al. 2021), grouped-query attention, SwiGLU, tied or untied output. Parameter names of HF's
// LlamaForCausalLM. Soft prompt tokens stand in front of the text.
#include "learn/torch/families/families.hpp"

namespace fedctl::learn {
namespace {

struct Dimensions {
  std::int64_t width, hidden, depth, heads, kv_heads, vocabulary, context;
  double eps, theta;
  bool tied;
};

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  return x * torch::rsqrt(x.square().mean(-1, true) + eps) * weight;
}

struct Block {
  torch::Tensor attention_norm, mlp_norm;
  AdaptableLinear query, key, value, output, gate, up, down;

  Block(Builder& builder, const std::string& name, const Dimensions& shape)
      : attention_norm(builder.parameter(name + ".input_layernorm.weight", {shape.width}, Init::ones())),
        mlp_norm(builder.parameter(name + ".post_attention_layernorm.weight", {shape.width}, Init::ones())) {
    const std::int64_t kv = shape.width / shape.heads * shape.kv_heads;
    const std::string self = name + ".self_attn.", mlp = name + ".mlp.";
    query = builder.linear(self + "q_proj", "query", shape.width, shape.width, false);
    key = builder.linear(self + "k_proj", "key", shape.width, kv, false);
    value = builder.linear(self + "v_proj", "value", shape.width, kv, false);
    output = builder.linear(self + "o_proj", "output", shape.width, shape.width, false);
    gate = builder.linear(mlp + "gate_proj", "gate", shape.width, shape.hidden, false);
    up = builder.linear(mlp + "up_proj", "up", shape.width, shape.hidden, false);
    down = builder.linear(mlp + "down_proj", "down", shape.hidden, shape.width, false);
  }
};

class Llama final : public Family {
 public:
  Llama(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) : shape_(read_shape(spec, file)) {
    if (spec.data.task != data::Task::language) {
      throw ConfigError("model.kind is llama, but the data set is not text for language modelling");
    }
    if (spec.data.vocabulary > shape_.vocabulary) {
      throw DataError("the tokenizer has " + std::to_string(spec.data.vocabulary) + " tokens, the model " +
                          std::to_string(shape_.vocabulary),
                      "data.tokenizer and model.path must belong together");
    }
    const double deviation = 0.02;
    embedding_ = builder.parameter("model.embed_tokens.weight", {shape_.vocabulary, shape_.width}, Init::normal(deviation));
    if (const std::int64_t tokens = builder.adapter().prompt_tokens(); tokens > 0) {
      prompt_ = builder.trainable("prompt_embeddings", "prompt", {tokens, shape_.width}, Init::normal(deviation));
    }
    for (std::int64_t i = 0; i < shape_.depth; ++i) {
      blocks_.emplace_back(builder, "model.layers." + std::to_string(i), shape_);
    }
    norm_ = builder.parameter("model.norm.weight", {shape_.width}, Init::ones());
    // A tied output cannot be trained without the embedding: `head` trains a copy of it instead.
    const bool own_head = builder.adapter().trains_head() && !builder.adapter().trains_base() && head_only(spec);
    if (own_head) {
      const torch::Tensor first = shape_.tied ? embedding_ : builder.parameter("lm_head.weight", {shape_.vocabulary, shape_.width}, Init::normal(deviation));
      output_ = builder.trainable("lm_head.weight", "head", first);
    } else {
      output_ = shape_.tied ? embedding_
                            : builder.parameter("lm_head.weight", {shape_.vocabulary, shape_.width}, Init::normal(deviation));
    }
    untied_now_ = own_head || !shape_.tied;
    prepare_tables();
  }

  torch::Tensor logits(const data::Batch& batch) const override {
    const torch::Tensor tokens = view_of(batch.at("tokens"));
    torch::Tensor x = torch::embedding(embedding_, tokens);
    const std::int64_t soft = prompt_.defined() ? prompt_.size(0) : 0;
    if (soft > 0) {
      x = torch::cat({prompt_.unsqueeze(0).expand({x.size(0), soft, shape_.width}), x}, 1);
    }
    const std::int64_t t = x.size(1);
    const torch::Tensor cos = cos_.narrow(0, 0, t), sin = sin_.narrow(0, 0, t);
    const torch::Tensor mask = mask_.narrow(0, 0, t).narrow(1, 0, t);
    for (const Block& block : blocks_) x = step(block, x, cos, sin, mask);
    if (soft > 0) x = x.narrow(1, soft, t - soft);
    return torch::linear(rms_norm(x, norm_, shape_.eps), output_);
  }

  void check(const data::Batch& batch) const override {
    const auto found = batch.find("tokens");
    if (found == batch.end() || found->second.dtype != DType::i64 || found->second.shape.size() != 2) {
      throw DataError("the batch has no tokens of shape [n,t]", "a llama reads text");
    }
    const Tensor& tokens = found->second;
    const std::int64_t soft = prompt_.defined() ? prompt_.size(0) : 0;
    if (tokens.shape[1] < 1 || tokens.shape[1] + soft > shape_.context) {
      throw DataError("a sequence of " + std::to_string(tokens.shape[1] + soft) + " tokens, the model takes 1 to " +
                          std::to_string(shape_.context),
                      "choose a shorter data.window");
    }
    require_range(tokens, 0, shape_.vocabulary, "token", false);
    const auto labels = batch.find("labels");
    if (labels == batch.end()) return;
    if (labels->second.shape != tokens.shape) throw DataError("labels must have the shape of the tokens");
    require_range(labels->second, 0, shape_.vocabulary, "label", true);
  }

  std::string config_json() const override {
    const auto field = [](const char* name, std::int64_t value) {
      return std::string(",\"") + name + "\":" + std::to_string(value);
    };
    return R"({"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_act":"silu","rms_norm_eps":)" +
           std::to_string(shape_.eps) + R"(,"rope_theta":)" + std::to_string(shape_.theta) +
           field("hidden_size", shape_.width) + field("intermediate_size", shape_.hidden) +
           field("num_hidden_layers", shape_.depth) + field("num_attention_heads", shape_.heads) +
           field("num_key_value_heads", shape_.kv_heads) + field("vocab_size", shape_.vocabulary) +
           field("max_position_embeddings", shape_.context) + R"(,"tie_word_embeddings":)" +
           (untied_now_ ? "false}" : "true}");
  }
  const char* task_type() const override { return "CAUSAL_LM"; }

 private:
  static bool head_only(const LearnerSpec& spec) {
    return dynamic_cast<const HeadOptions*>(spec.adapter.options.get()) != nullptr;
  }

  static Dimensions read_shape(const LearnerSpec& spec, const Checkpoint* file) {
    const auto& options = spec.model.as<LlamaOptions>();
    if (file == nullptr) {
      return {options.width, options.hidden, options.depth, options.heads, options.kv_heads,
              std::max<std::int64_t>(spec.data.vocabulary, 2), options.context, 1e-5, 1e4, true};
    }
    const std::int64_t heads = file->integer("num_attention_heads", 1, 1 << 12);
    Dimensions shape{file->integer("hidden_size", 1, 1 << 16),
                 file->integer("intermediate_size", 1, 1 << 18),
                 file->integer("num_hidden_layers", 1, 1 << 10),
                 heads,
                 file->integer_or("num_key_value_heads", heads, 1, 1 << 12),
                 file->integer("vocab_size", 2, 1 << 20),
                 file->integer_or("max_position_embeddings", 2048, 1, 1 << 20),
                 file->real_or("rms_norm_eps", 1e-6),
                 file->real_or("rope_theta", 1e4),
                 file->boolean_or("tie_word_embeddings", false)};
    if (shape.width % shape.heads != 0 || shape.heads % shape.kv_heads != 0) {
      throw DataError(file->path() + ": heads must divide the width, and key/value heads the heads");
    }
    return shape;
  }

  void prepare_tables() {
    const std::int64_t size = shape_.width / shape_.heads, half = size / 2;
    const torch::Tensor inverse = torch::pow(shape_.theta, -torch::arange(0, half, torch::kFloat64) * 2 / size);
    const torch::Tensor angle = torch::outer(torch::arange(0, shape_.context, torch::kFloat64), inverse);
    const torch::Tensor both = torch::cat({angle, angle}, 1);
    cos_ = both.cos().to(torch::kFloat32);
    sin_ = both.sin().to(torch::kFloat32);
    const double never = -std::numeric_limits<double>::infinity();
    mask_ = torch::full({shape_.context, shape_.context}, never).triu(1);
  }

  // x (n, heads, t, d), rotated by position; the halves of d are the planes.
  static torch::Tensor rotate(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin) {
    const std::int64_t half = x.size(3) / 2;
    const torch::Tensor turned = torch::cat({-x.narrow(3, half, half), x.narrow(3, 0, half)}, 3);
    return x * cos + turned * sin;
  }

  torch::Tensor step(const Block& block, const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                     const torch::Tensor& mask) const {
    const torch::Tensor y = rms_norm(x, block.attention_norm, shape_.eps);
    const torch::Tensor q = rotate(split_heads(block.query(y), shape_.heads), cos, sin);
    torch::Tensor k = rotate(split_heads(block.key(y), shape_.kv_heads), cos, sin);
    torch::Tensor v = split_heads(block.value(y), shape_.kv_heads);
    if (shape_.kv_heads != shape_.heads) {
      const std::int64_t repeats = shape_.heads / shape_.kv_heads;
      k = k.repeat_interleave(repeats, 1);
      v = v.repeat_interleave(repeats, 1);
    }
    const torch::Tensor z = x + block.output(attention(q, k, v, mask));
    const torch::Tensor w = rms_norm(z, block.mlp_norm, shape_.eps);
    return z + block.down(torch::silu(block.gate(w)) * block.up(w));
  }

  Dimensions shape_;
  torch::Tensor embedding_, prompt_, norm_, output_, cos_, sin_, mask_;
  std::vector<Block> blocks_;
  bool untied_now_ = false;
};

}  // namespace

std::unique_ptr<Family> make_llama(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) {
  return std::make_unique<Llama>(spec, builder, file);
}

}  // namespace fedctl::learn
