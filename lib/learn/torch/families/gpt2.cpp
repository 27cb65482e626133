// gpt2: decoder language model (Radford et al. 2019, "Language models are unsupervised multitask
// learners"): pre-norm blocks, GELU by tanh, learned positions, one matrix for query, key and
// value, output tied to the embedding. Parameter names and storage of HF's GPT2LMHeadModel, whose
// linear layers hold [in, out]. Soft prompt tokens stand in front of the text and take the first
// positions.
#include "learn/torch/convert.hpp"
#include "learn/torch/families/families.hpp"
#include "learn/torch/families/norm.hpp"
#include "learn/torch/ops.hpp"

namespace fedctl::learn {
namespace {

constexpr double kEmbeddingDeviation = 0.02;  // HF's initializer_range
constexpr std::int64_t kEndOfText = 50256;    // of GPT-2's own tokenizer

struct Dimensions {
  std::int64_t width, hidden, depth, heads, vocabulary, context;
  double eps;
  bool tied;
};

Dimensions from_file(const Checkpoint& file) {
  file.require_text("model_type", "gpt2");
  file.require_text("activation_function", "gelu_new");
  file.require_off("scale_attn_by_inverse_layer_idx");
  file.require_off("add_cross_attention");
  if (!file.boolean_or("scale_attn_weights", true)) {
    throw DataError(file.path() +
                    "/config.json: scale_attn_weights is off, which this family does not have");
  }
  const std::int64_t width = file.integer("n_embd", 1, 1 << 14);
  return {width,
          file.integer_or("n_inner", 4 * width, 1, 1 << 16),
          file.integer("n_layer", 1, 1 << 10),
          file.integer("n_head", 1, 1 << 10),
          file.integer("vocab_size", 1, 1 << 20),
          file.integer("n_positions", 1, 1 << 20),
          file.real_or("layer_norm_epsilon", 1e-5, 0, 1),
          file.boolean_or("tie_word_embeddings", true)};
}

Dimensions read_dimensions(const LearnerSpec& spec, const Checkpoint* file) {
  require_text(spec, data::Task::language);
  const auto& o = spec.model.as<Gpt2Options>();
  const Dimensions d =
      file != nullptr ? from_file(*file)
                      : Dimensions{o.width,   4 * o.width, o.depth, o.heads, spec.data.vocabulary,
                                   o.context, 1e-5,        true};
  require_heads(spec, file, d.width, d.heads);
  require_vocabulary(spec, d.vocabulary);
  return d;
}

// x + attention(norm x), then x + mlp(norm x); one row a token.
struct Block {
  LayerNorm before, after;
  AdaptableLinear qkv, output, fc1, fc2;

  Block(Builder& builder, const std::string& name, const Dimensions& d)
      : before(builder, name + ".ln_1", d.width, d.eps),
        after(builder, name + ".ln_2", d.width, d.eps) {
    const auto linear = [&](const char* module, const char* target, std::int64_t in,
                            std::int64_t out) {
      return builder.linear(name + module, target, in, out, true, Storage::input_first);
    };
    qkv = linear(".attn.c_attn", "qkv", d.width, 3 * d.width);
    output = linear(".attn.c_proj", "output", d.width, d.width);
    fc1 = linear(".mlp.c_fc", "fc1", d.width, d.hidden);
    fc2 = linear(".mlp.c_proj", "fc2", d.hidden, d.width);
  }

  at::Tensor operator()(const at::Tensor& x, const ops::AttentionOptions& options) const {
    const std::vector<at::Tensor> parts = qkv(before(x)).chunk(3, 1);
    const at::Tensor z = output.onto(x, ops::attention(parts[0], parts[1], parts[2], options));
    return fc2.onto(z, at::gelu(fc1(after(z)), "tanh"));
  }
};

class Gpt2 final : public PartedFamily {
 public:
  Gpt2(const LearnerSpec& spec, Builder& builder, const Checkpoint* file)
      : d_(read_dimensions(spec, file)), untied_(!d_.tied) {
    const Shape matrix = {d_.vocabulary, d_.width};
    const Init normal = Init::normal(kEmbeddingDeviation);
    words_ = builder.parameter("transformer.wte.weight", matrix, normal);
    positions_ = builder.parameter("transformer.wpe.weight", {d_.context, d_.width}, normal);
    prompt_ = make_text_prompt(builder, words_, d_.context);
    prefix_ = make_prefix(builder, d_.depth, d_.heads, d_.width, d_.context);
    for (std::int64_t i = 0; i < d_.depth; ++i) {
      blocks_.emplace_back(builder, "transformer.h." + std::to_string(i), d_);
    }
    norm_ = LayerNorm(builder, "transformer.ln_f", d_.width, d_.eps);
    output_ = d_.tied ? words_ : builder.parameter("lm_head.weight", matrix, normal);
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
    PartState state{at::embedding(words_, view_of(batch.at("tokens"))), lengths_of(batch)};
    if (prompt_.defined()) state.rows = put_in_front(prompt_, state.rows, state.lengths);
    state.rows =
        state.rows + at::embedding(positions_, positions_of(state.lengths) + prefix_.tokens);
    return state;
  }

  PartState block(std::int64_t index, const PartState& state) const override {
    const ops::AttentionOptions options{
        state.lengths,        d_.heads, d_.heads, true, {}, {}, prefix_.keys(index),
        prefix_.values(index)};
    return {blocks_[static_cast<std::size_t>(index)](state.rows, options), state.lengths};
  }

  at::Tensor head(const PartState& state) const override {
    std::vector<std::int64_t> lengths = state.lengths;
    const at::Tensor x =
        prompt_.defined() ? take_behind(prompt_.size(0), state.rows, lengths) : state.rows;
    return at::linear(norm_(x), output_);
  }

  std::int64_t context() const override {
    return d_.context - prompt_tokens(prompt_) - prefix_.tokens;
  }
  void check(const data::Batch& batch) const override {
    check_tokens(batch, d_.vocabulary, context());
    check_next_tokens(batch, d_.vocabulary);
  }

  std::string config_json() const override {
    // What transformers takes for the ends of a text where config.json names no token.
    const char* end = d_.vocabulary > kEndOfText ? "50256" : "null";
    return json_object({{"architectures", R"(["GPT2LMHeadModel"])"},
                        {"model_type", json_of("gpt2")},
                        {"n_embd", std::to_string(d_.width)},
                        {"n_inner", std::to_string(d_.hidden)},
                        {"n_layer", std::to_string(d_.depth)},
                        {"n_head", std::to_string(d_.heads)},
                        {"vocab_size", std::to_string(d_.vocabulary)},
                        {"n_positions", std::to_string(d_.context)},
                        {"bos_token_id", end},
                        {"eos_token_id", end},
                        {"activation_function", json_of("gelu_new")},
                        {"layer_norm_epsilon", json_of(d_.eps)},
                        {"embd_pdrop", "0.0"},
                        {"attn_pdrop", "0.0"},
                        {"resid_pdrop", "0.0"},
                        {"tie_word_embeddings", untied_ ? "false" : "true"}});
  }

  std::string settings() const override {
    return "gpt2 heads " + std::to_string(d_.heads) + " eps " + json_of(d_.eps) +
           (d_.tied ? " tied" : "");
  }

  const char* task_type() const override { return "CAUSAL_LM"; }
  bool fan_in_fan_out() const override { return true; }

 private:
  Dimensions d_;
  bool untied_;
  at::Tensor words_, positions_, prompt_, output_;
  Prefix prefix_;
  std::vector<Block> blocks_;
  LayerNorm norm_;
};

}  // namespace

std::unique_ptr<Family> make_gpt2(const LearnerSpec& spec, Builder& builder,
                                  const Checkpoint* file) {
  return std::make_unique<Gpt2>(spec, builder, file);
}

}  // namespace fedctl::learn
