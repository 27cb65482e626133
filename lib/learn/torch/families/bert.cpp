// bert: bidirectional encoder of text (Devlin et al., NAACL 2019, arXiv 1810.04805): post-norm
// blocks, exact GELU, learned positions and segment types; parameter names of HF's
// BertForSequenceClassification.
//   pooling cls:  HF's pooler, tanh(dense(first row)), then the classifier.
//   pooling mean: the mean of a text's rows, then the classifier, as sentence encoders have it
//                 (Reimers and Gurevych, EMNLP 2019, arXiv 1908.10084); there is no pooler.
// Soft prompt tokens stand in front of a text as PEFT has it: they get positions, which the text's
// follow, and segment type 0, and under `cls` the first of them is the row that is read. The mean
// leaves them out.
#include <algorithm>

#include "learn/torch/convert.hpp"
#include "learn/torch/families/families.hpp"
#include "learn/torch/families/norm.hpp"
#include "learn/torch/ops.hpp"

namespace fedctl::learn {
namespace {

constexpr double kEmbeddingDeviation = 0.02;  // HF's initializer_range

struct Dimensions {
  std::int64_t width, hidden, depth, heads, vocabulary, context, segments;
  double eps;
};

Dimensions read_dimensions(const LearnerSpec& spec, const Checkpoint* file) {
  require_text(spec, data::Task::classify);
  const auto& o = spec.model.as<BertOptions>();
  Dimensions d{o.width, o.hidden, o.depth, o.heads, spec.data.vocabulary, o.context, 2, 1e-12};
  if (file != nullptr) {
    file->require_text("model_type", "bert");
    file->require_text("hidden_act", "gelu");
    file->require_text("position_embedding_type", "absolute");
    file->require_off("is_decoder");
    file->require_off("add_cross_attention");
    d = {file->integer("hidden_size", 1, 1 << 14),
         file->integer("intermediate_size", 1, 1 << 16),
         file->integer("num_hidden_layers", 1, 1 << 10),
         file->integer("num_attention_heads", 1, 1 << 10),
         file->integer("vocab_size", 1, 1 << 20),
         file->integer("max_position_embeddings", 1, 1 << 20),
         file->integer_or("type_vocab_size", 2, 1, 1 << 10),
         file->real_or("layer_norm_eps", 1e-12, 0, 1)};
  }
  require_heads(spec, file, d.width, d.heads);
  require_vocabulary(spec, d.vocabulary);
  return d;
}

// norm(x + attention(x)), then norm(x + mlp(x)); one row a token.
struct Block {
  AdaptableLinear query, key, value, output, fc1, fc2;
  LayerNorm attention_norm, norm;

  Block(Builder& builder, const std::string& name, const Dimensions& d) {
    const auto square = [&](const char* module, const char* target) {
      return builder.linear(name + module, target, d.width, d.width, true);
    };
    query = square(".attention.self.query", "query");
    key = square(".attention.self.key", "key");
    value = square(".attention.self.value", "value");
    output = square(".attention.output.dense", "output");
    attention_norm = LayerNorm(builder, name + ".attention.output.LayerNorm", d.width, d.eps);
    fc1 = builder.linear(name + ".intermediate.dense", "fc1", d.width, d.hidden, true);
    fc2 = builder.linear(name + ".output.dense", "fc2", d.hidden, d.width, true);
    norm = LayerNorm(builder, name + ".output.LayerNorm", d.width, d.eps);
  }

  at::Tensor mix(const at::Tensor& x, const ops::AttentionOptions& options) const {
    return ops::attention(query(x), key(x), value(x), options);
  }
  at::Tensor feed(const at::Tensor& x, const at::Tensor& mixed) const {
    const at::Tensor z = attention_norm(output.onto(x, mixed));
    return norm(fc2.onto(z, at::gelu(fc1(z))));
  }
};

class Bert final : public PartedFamily {
 public:
  Bert(const LearnerSpec& spec, Builder& builder, const Checkpoint* file)
      : info_(spec.data),
        d_(read_dimensions(spec, file)),
        mean_(spec.model.as<BertOptions>().pooling == "mean") {
    const std::string top = "bert.embeddings.";
    const Init normal = Init::normal(kEmbeddingDeviation);
    words_ = builder.parameter(top + "word_embeddings.weight", {d_.vocabulary, d_.width}, normal);
    positions_ =
        builder.parameter(top + "position_embeddings.weight", {d_.context, d_.width}, normal);
    types_ =
        builder.parameter(top + "token_type_embeddings.weight", {d_.segments, d_.width}, normal);
    norm_ = LayerNorm(builder, top + "LayerNorm", d_.width, d_.eps);
    prompt_ = make_text_prompt(builder, words_, d_.context);
    prefix_ = make_prefix(builder, d_.depth, d_.heads, d_.width, d_.context);
    for (std::int64_t i = 0; i < d_.depth; ++i) {
      blocks_.emplace_back(builder, "bert.encoder.layer." + std::to_string(i), d_);
    }
    if (!mean_) make_pooler(builder, file);
    const bool trained = file != nullptr && !file->released() &&
                         file->contains("classifier.weight") && file->classes() == info_.classes;
    head_ = builder.head("classifier", d_.width, static_cast<std::int64_t>(info_.classes.size()),
                         trained);
  }

  std::int64_t block_count() const override { return d_.depth; }
  Input input_of(std::int64_t index) const override {
    if (index == d_.depth && !mean_) return {d_.width, 1, 1};
    return {d_.width, prompt_tokens(prompt_) + 1, d_.context - prefix_.tokens};
  }

  // Words, positions and segment types.
  PartState embed(const data::Batch& batch) const override {
    PartState state{at::embedding(words_, view_of(batch.at("tokens"))), lengths_of(batch)};
    const auto segments = batch.find("segments");
    at::Tensor types = segments == batch.end() ? at::zeros({state.rows.size(0)}, at::kLong)
                                               : view_of(segments->second);
    if (prompt_.defined()) {
      std::vector<std::int64_t> texts = state.lengths;
      types = put_in_front(at::zeros({prompt_.size(0)}, at::kLong), types, texts);
      state.rows = put_in_front(prompt_, state.rows, state.lengths);
    }
    state.rows = norm_(state.rows + at::embedding(types_, types) +
                       at::embedding(positions_, positions_of(state.lengths) + prefix_.tokens));
    return state;
  }

  PartState block(std::int64_t index, const PartState& state) const override {
    const Block& block = blocks_[static_cast<std::size_t>(index)];
    const ops::AttentionOptions options{
        state.lengths,        d_.heads, d_.heads, false, {}, {}, prefix_.keys(index),
        prefix_.values(index)};
    const at::Tensor mixed = block.mix(state.rows, options);
    if (mean_ || index + 1 < d_.depth) return {block.feed(state.rows, mixed), state.lengths};
    // The pooler reads the first row alone, so the last block feeds no other forward.
    const at::Tensor first = first_rows(state.lengths);
    return {block.feed(state.rows.index_select(0, first), mixed.index_select(0, first)),
            std::vector<std::int64_t>(state.lengths.size(), 1)};
  }

  at::Tensor head(const PartState& state) const override {
    return head_(mean_ ? averages(state.lengths).mm(state.rows) : at::tanh(pooler_(state.rows)));
  }

  std::int64_t context() const override {
    return d_.context - prompt_tokens(prompt_) - prefix_.tokens;
  }
  void check(const data::Batch& batch) const override {
    check_tokens(batch, d_.vocabulary, context());
    check_classes(batch, static_cast<std::int64_t>(batch.at("lengths").i64().size()),
                  info_.classes.size());
    const auto segments = batch.find("segments");
    if (segments == batch.end() || d_.segments > 1) return;
    if (std::ranges::any_of(segments->second.i64(), [](std::int64_t type) { return type != 0; })) {
      throw DataError("the batch has pairs of texts, the model one segment type");
    }
  }

  std::string config_json() const override {
    std::vector<std::pair<std::string, std::string>> members = {
        {"architectures", mean_ ? R"(["BertModel"])" : R"(["BertForSequenceClassification"])"},
        {"model_type", json_of("bert")},
        {"hidden_size", std::to_string(d_.width)},
        {"intermediate_size", std::to_string(d_.hidden)},
        {"num_hidden_layers", std::to_string(d_.depth)},
        {"num_attention_heads", std::to_string(d_.heads)},
        {"vocab_size", std::to_string(d_.vocabulary)},
        {"max_position_embeddings", std::to_string(d_.context)},
        {"type_vocab_size", std::to_string(d_.segments)},
        {"hidden_act", json_of("gelu")},
        {"hidden_dropout_prob", "0.0"},
        {"attention_probs_dropout_prob", "0.0"},
        {"layer_norm_eps", json_of(d_.eps)},
        {"position_embedding_type", json_of("absolute")},
        {"pad_token_id", "0"}};
    for (auto& member : json_of_classes(info_.classes)) members.push_back(std::move(member));
    return json_object(members);
  }

  std::string settings() const override {
    return "bert heads " + std::to_string(d_.heads) + " eps " + json_of(d_.eps) + " pooling " +
           (mean_ ? "mean" : "cls");
  }

  const char* task_type() const override { return "SEQ_CLS"; }

 private:
  void make_pooler(Builder& builder, const Checkpoint* file) {
    const std::string name = "bert.pooler.dense";
    if (file != nullptr && !file->released() && !file->contains(name + ".weight")) {
      throw DataError(file->path() + ": has no pooler (\"" + name + ".weight\")",
                      "model.pooling: mean needs none");
    }
    pooler_.weight =
        builder.parameter(name + ".weight", {d_.width, d_.width}, Init::linear(d_.width));
    pooler_.bias = builder.parameter(name + ".bias", {d_.width}, Init::zeros());
  }

  // [texts, rows]: times the rows it gives the mean of each text, without the prompt.
  at::Tensor averages(const std::vector<std::int64_t>& lengths) const {
    const std::int64_t skipped = prompt_tokens(prompt_);
    std::int64_t row = 0, text = 0;
    for (const std::int64_t length : lengths) row += length;
    at::Tensor weights = at::zeros({static_cast<std::int64_t>(lengths.size()), row});
    row = 0;
    for (const std::int64_t length : lengths) {
      const std::int64_t words = length - skipped;
      weights[text++].narrow(0, row + skipped, words).fill_(1.0 / static_cast<double>(words));
      row += length;
    }
    return weights;
  }

  data::DatasetInfo info_;
  Dimensions d_;
  bool mean_;
  at::Tensor words_, positions_, types_, prompt_;
  Prefix prefix_;
  LayerNorm norm_;
  std::vector<Block> blocks_;
  AdaptableLinear pooler_, head_;
};

}  // namespace

std::unique_ptr<Family> make_bert(const LearnerSpec& spec, Builder& builder,
                                  const Checkpoint* file) {
  return std::make_unique<Bert>(spec, builder, file);
}

}  // namespace fedctl::learn
