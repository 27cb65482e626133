// llama: decoder language model of the Llama 2 layout (Touvron et al. 2023, arXiv 2307.09288):
// RMSNorm, rotary positions (Su et al., arXiv 2104.09864; halves rotate, as in HF), grouped-query
// attention, SwiGLU, tied or untied output. Parameter names of HF's LlamaForCausalLM. Soft prompt
// tokens stand in front of the text and take the first positions.
#include <algorithm>
#include <array>
#include <cmath>

#include "learn/torch/convert.hpp"
#include "learn/torch/families/families.hpp"
#include "learn/torch/llama_step.hpp"
#include "learn/torch/ops.hpp"

namespace fedctl::learn {
namespace {

constexpr double kEmbeddingDeviation = 0.02;  // HF's initializer_range
// The fused step takes the weights of a layer, or of the output, through the cache once for every
// 32 tokens; past this it is no faster than LibTorch's products (docs/models.md).
constexpr std::int64_t kFusedBytesMax = 2 << 20;

struct Dimensions {
  std::int64_t width, hidden, depth, heads, kv_heads, head_width, vocabulary, context;
  double eps, theta;
  bool tied;
};

Dimensions from_options(const LearnerSpec& spec) {
  const auto& o = spec.model.as<LlamaOptions>();
  const auto fail = [](const std::string& what) { throw ConfigError("model." + what); };
  if (o.width % o.heads != 0 || o.width / o.heads % 2 != 0) {
    fail("heads is " + std::to_string(o.heads) + ", must divide model.width, " +
         std::to_string(o.width) + ", into even parts");
  }
  if (o.heads % o.kv_heads != 0) {
    fail("kv_heads is " + std::to_string(o.kv_heads) + ", must divide model.heads, " +
         std::to_string(o.heads));
  }
  return {
      o.width,   o.hidden, o.depth, o.heads, o.kv_heads, o.width / o.heads, spec.data.vocabulary,
      o.context, 1e-5,     1e4,     true};
}

Dimensions from_file(const Checkpoint& file) {
  file.require_text("model_type", "llama");
  file.require_text("hidden_act", "silu");
  file.require_off("attention_bias");
  file.require_off("mlp_bias");
  for (const char* key :
       {"rope_scaling.rope_type", "rope_scaling.type", "rope_parameters.rope_type"}) {
    file.require_text(key, "default");
  }
  const std::int64_t heads = file.integer("num_attention_heads", 1, 1 << 12);
  const std::int64_t width = file.integer("hidden_size", 1, 1 << 16);
  const double theta = file.real_or("rope_theta", 1e4, 1, 1e12);
  const Dimensions d{
      width,
      file.integer("intermediate_size", 1, 1 << 18),
      file.integer("num_hidden_layers", 1, 1 << 10),
      heads,
      file.integer_or("num_key_value_heads", heads, 1, 1 << 12),
      file.integer_or("head_dim", std::max<std::int64_t>(width / heads, 1), 1, 1 << 12),
      file.integer("vocab_size", 1, 1 << 20),
      file.integer_or("max_position_embeddings", 2048, 1, 1 << 24),
      file.real_or("rms_norm_eps", 1e-6, 0, 1),
      file.real_or("rope_parameters.rope_theta", theta, 1, 1e12),
      file.boolean_or("tie_word_embeddings", false)};
  if (d.heads % d.kv_heads != 0 || d.head_width % 2 != 0) {
    throw DataError(file.path() + ": num_key_value_heads is " + std::to_string(d.kv_heads) +
                    " and head_dim " + std::to_string(d.head_width) +
                    ": they must divide num_attention_heads, " + std::to_string(heads) +
                    ", and be even");
  }
  return d;
}

Dimensions read_dimensions(const LearnerSpec& spec, const Checkpoint* file) {
  require_text(spec, data::Task::language);
  const Dimensions d = file == nullptr ? from_options(spec) : from_file(*file);
  require_vocabulary(spec, d.vocabulary);
  return d;
}

// Windows for the fused step.
StepVector window(const at::Tensor& parameter) {
  return {parameter.data_ptr<float>(),
          parameter.requires_grad() ? parameter.grad().data_ptr<float>() : nullptr};
}
StepLinear window(const at::Tensor& weight, const Delta* delta) {
  std::optional<StepPair> pair;
  if (delta != nullptr) {
    const Delta::Pair found = delta->pair().value();
    const StepVector a = window(found.a), b = window(found.b);
    pair = {a.values,   b.values,        a.gradient,
            b.gradient, found.a.size(0), static_cast<float>(found.scale)};
  }
  const StepVector values = window(weight);
  return {weight.size(0), weight.size(1), values.values, values.gradient, pair};
}

// x + attention(norm x), then x + mlp(norm x); one row a token.
struct Block {
  at::Tensor attention_norm, mlp_norm;
  AdaptableLinear query, key, value, output, gate, up, down;
  double eps;

  Block(Builder& builder, const std::string& name, const Dimensions& d)
      : attention_norm(
            builder.parameter(name + ".input_layernorm.weight", {d.width}, Init::ones())),
        mlp_norm(
            builder.parameter(name + ".post_attention_layernorm.weight", {d.width}, Init::ones())),
        eps(d.eps) {
    const std::int64_t q = d.heads * d.head_width, kv = d.kv_heads * d.head_width;
    const std::string self = name + ".self_attn.", mlp = name + ".mlp.";
    query = builder.linear(self + "q_proj", "query", d.width, q, false);
    key = builder.linear(self + "k_proj", "key", d.width, kv, false);
    value = builder.linear(self + "v_proj", "value", d.width, kv, false);
    output = builder.linear(self + "o_proj", "output", q, d.width, false);
    gate = builder.linear(mlp + "gate_proj", "gate", d.width, d.hidden, false);
    up = builder.linear(mlp + "up_proj", "up", d.width, d.hidden, false);
    down = builder.linear(mlp + "down_proj", "down", d.hidden, d.width, false);
  }

  at::Tensor operator()(const at::Tensor& x, const ops::AttentionOptions& options) const {
    const at::Tensor y = ops::rms_norm(x, attention_norm, eps);
    const at::Tensor mixed = ops::attention(query(y), key(y), value(y), options);
    const at::Tensor z = output.onto(x, mixed);
    const at::Tensor w = ops::rms_norm(z, mlp_norm, eps);
    return down.onto(z, ops::swiglu(gate(w), up(w)));
  }

  std::array<const AdaptableLinear*, 7> layers() const {
    return {&query, &key, &value, &output, &gate, &up, &down};
  }
  StepLayer windows() const {
    const auto linear = [](const AdaptableLinear& layer) {
      return window(layer.weight, layer.delta.get());
    };
    return {window(attention_norm), window(mlp_norm), linear(query), linear(key), linear(value),
            linear(output),         linear(gate),     linear(up),    linear(down)};
  }
};

class Llama final : public PartedFamily {
 public:
  Llama(const LearnerSpec& spec, Builder& builder, const Checkpoint* file)
      : d_(read_dimensions(spec, file)), untied_(!d_.tied) {
    const Shape matrix = {d_.vocabulary, d_.width};
    const Init normal = Init::normal(kEmbeddingDeviation);
    embedding_ = builder.parameter("model.embed_tokens.weight", matrix, normal);
    prompt_ = make_text_prompt(builder, embedding_, d_.context);
    prefix_ = make_prefix(builder, d_.depth, d_.kv_heads, d_.kv_heads * d_.head_width, d_.context);
    for (std::int64_t i = 0; i < d_.depth; ++i) {
      blocks_.emplace_back(builder, "model.layers." + std::to_string(i), d_);
    }
    norm_ = builder.parameter("model.norm.weight", {d_.width}, Init::ones());
    output_ = d_.tied ? embedding_ : builder.parameter("lm_head.weight", matrix, normal);
    if (builder.adapter().trains_head() && !builder.adapter().trains_base()) {
      // A tied output cannot be trained without the embedding: its copy is.
      output_ = builder.trainable("lm_head.weight", "head", output_);
      untied_ = true;
    }
  }

  std::int64_t block_count() const override { return d_.depth; }
  Input input_of(std::int64_t) const override {
    return {d_.width, prompt_tokens(prompt_) + 1, d_.context - prefix_.tokens};
  }

  PartState embed(const data::Batch& batch) const override {
    PartState state{at::embedding(embedding_, view_of(batch.at("tokens"))), lengths_of(batch)};
    if (prompt_.defined()) state.rows = put_in_front(prompt_, state.rows, state.lengths);
    return state;
  }

  PartState block(std::int64_t index, const PartState& state) const override {
    grow_tables(prefix_.tokens + *std::ranges::max_element(state.lengths));
    const ops::AttentionOptions options{
        state.lengths, d_.heads, d_.kv_heads,         true,
        cosine_,       sine_,    prefix_.keys(index), prefix_.values(index)};
    return {blocks_[static_cast<std::size_t>(index)](state.rows, options), state.lengths};
  }

  at::Tensor head(const PartState& state) const override {
    std::vector<std::int64_t> lengths = state.lengths;
    const at::Tensor x =
        prompt_.defined() ? take_behind(prompt_.size(0), state.rows, lengths) : state.rows;
    return at::linear(ops::rms_norm(x, norm_, d_.eps), output_);
  }

  std::int64_t context() const override {
    return d_.context - prompt_tokens(prompt_) - prefix_.tokens;
  }
  void check(const data::Batch& batch) const override {
    check_tokens(batch, d_.vocabulary, context());
    check_next_tokens(batch, d_.vocabulary);
  }

  std::string config_json() const override {
    return json_object({{"architectures", R"(["LlamaForCausalLM"])"},
                        {"model_type", json_of("llama")},
                        {"hidden_size", std::to_string(d_.width)},
                        {"intermediate_size", std::to_string(d_.hidden)},
                        {"num_hidden_layers", std::to_string(d_.depth)},
                        {"num_attention_heads", std::to_string(d_.heads)},
                        {"num_key_value_heads", std::to_string(d_.kv_heads)},
                        {"head_dim", std::to_string(d_.head_width)},
                        {"vocab_size", std::to_string(d_.vocabulary)},
                        {"max_position_embeddings", std::to_string(d_.context)},
                        {"hidden_act", json_of("silu")},
                        {"rms_norm_eps", json_of(d_.eps)},
                        {"rope_theta", json_of(d_.theta)},
                        {"attention_bias", "false"},
                        {"mlp_bias", "false"},
                        {"tie_word_embeddings", untied_ ? "false" : "true"}});
  }

  std::string settings() const override {
    return "llama heads " + std::to_string(d_.heads) + " kv_heads " + std::to_string(d_.kv_heads) +
           " eps " + json_of(d_.eps) + " theta " + json_of(d_.theta) + " context " +
           std::to_string(d_.context) + (d_.tied ? " tied" : "");
  }

  const char* task_type() const override { return "CAUSAL_LM"; }

  // Whether it is used is decided by the model alone, because it decides the last bits.
  std::unique_ptr<FusedStep> fused() const override {
    if (!small_enough()) return nullptr;
    const auto fits = [](const AdaptableLinear& layer) {
      return layer.weight.scalar_type() == at::kFloat && (!layer.delta || layer.delta->pair());
    };
    if (prompt_.defined() || prefix_.tokens > 0) return nullptr;
    for (const Block& block : blocks_) {
      if (!std::ranges::all_of(block.layers(), [&](auto* layer) { return fits(*layer); })) {
        return nullptr;
      }
    }
    StepModel model{d_.width,
                    d_.hidden,
                    d_.heads,
                    d_.kv_heads,
                    d_.head_width,
                    d_.vocabulary,
                    static_cast<float>(d_.eps),
                    d_.theta,
                    window(embedding_),
                    {},
                    window(norm_),
                    window(output_, nullptr)};
    for (const Block& block : blocks_) model.layers.push_back(block.windows());
    return std::make_unique<LlamaStep>(std::move(model));
  }

 private:
  bool small_enough() const {
    const std::int64_t attention = 2 * (d_.heads + d_.kv_heads) * d_.head_width * d_.width;
    const std::int64_t largest =
        std::max(attention + 3 * d_.hidden * d_.width, d_.vocabulary * d_.width);
    return largest * static_cast<std::int64_t>(sizeof(float)) <= kFusedBytesMax;
  }

  // Cosine and sine of position * theta^(-2 i / head_width) for all positions below `length`,
  // doubled as longer texts come: a context may be far longer than any text. A prefix takes the
  // first positions and is not rotated, as PEFT's.
  void grow_tables(std::int64_t length) const {
    if (cosine_.defined() && cosine_.size(0) >= length) return;
    const std::int64_t rows = std::min(d_.context, std::max<std::int64_t>(128, 2 * length));
    const std::int64_t half = d_.head_width / 2;
    cosine_ = at::empty({rows, half});
    sine_ = at::empty({rows, half});
    float* c = cosine_.data_ptr<float>();
    float* s = sine_.data_ptr<float>();
    for (std::int64_t i = 0; i < half; ++i) {
      const double power = -2.0 * static_cast<double>(i) / static_cast<double>(d_.head_width);
      const double frequency = std::pow(d_.theta, power);
      for (std::int64_t row = 0; row < rows; ++row) {
        const double position = row < prefix_.tokens ? 0 : static_cast<double>(row);
        c[row * half + i] = static_cast<float>(std::cos(position * frequency));
        s[row * half + i] = static_cast<float>(std::sin(position * frequency));
      }
    }
  }

  Dimensions d_;
  bool untied_;
  at::Tensor embedding_, prompt_, norm_, output_;
  Prefix prefix_;
  mutable at::Tensor cosine_, sine_;  // a learner has one thread
  std::vector<Block> blocks_;
};

}  // namespace

std::unique_ptr<Family> make_llama(const LearnerSpec& spec, Builder& builder,
                                   const Checkpoint* file) {
  return std::make_unique<Llama>(spec, builder, file);
}

}  // namespace fedctl::learn
