// The fused step of a small Llama: loss, gradient and logits of a batch without one tensor made on
// the way, on plain arrays; no torch. Texts go through all layers in groups of some 128 tokens, in
// panels (panels.hpp), so that what passes between the operations stays in the cache; nothing is
// done for the sake of weights that are frozen. Checked against the family's own operators in
// tests/learn/torch/fused_test.cpp.
#pragma once

#include <span>
#include <vector>

#include "learn/learner.hpp"
#include "learn/torch/fused.hpp"
#include "learn/torch/panel_attention.hpp"
#include "learn/torch/step_linear.hpp"

namespace fedctl::learn {

// A parameter [count] and its gradient, null if it is frozen.
struct StepVector {
  const float* values;
  float* gradient;
};

struct StepLayer {
  StepVector attention_norm, mlp_norm;
  StepLinear query, key, value, output, gate, up, down;
};

struct StepModel {
  std::int64_t width, hidden, heads, kv_heads, head_width, vocabulary;
  float eps;
  double theta;
  StepVector embedding;  // [vocabulary, width]
  std::vector<StepLayer> layers;
  StepVector norm;
  StepLinear head;
};

class LlamaStep final : public FusedStep {
 public:
  explicit LlamaStep(StepModel model);

  std::int64_t classes() const override { return m_.vocabulary; }
  Scores evaluate(const data::Batch& batch, float* logits_out) override;
  Scores loss_and_gradient(const data::Batch& batch, double smoothing) override;

 private:
  using Floats = std::vector<float>;

  // Texts that go through the layers together. Tokens behind the last text fill the last panel,
  // each a text of its own without a label.
  struct Group {
    std::int64_t panels = 0;
    std::int64_t first = 0, count = 0;  // tokens of the batch
    std::vector<std::int32_t> tokens, labels, start, end;
    Floats cosine, sine;  // [panels][head_width / 2]
  };
  // What a layer's backward pass needs of the forward pass; [panels][...].
  struct Kept {
    Floats x, z;                        // the layer's input, and its MLP's: [width]
    Floats attention_scale, mlp_scale;  // the norms' 1 / sqrt(...): [1]
    Floats qkv, mixed, peak, inverse;   // of the attention
    Floats gate, up, inner;             // [hidden]
  };
  // The operation with something trained that a backward pass comes to last.
  enum class Until { down, gate, mlp_norm, output, query, below };
  // How a batch is run.
  struct Pass {
    bool train = false;
    double smoothing = 0;
    float share = 0;              // one over the number of labels
    float* logits_out = nullptr;  // [tokens of the batch, vocabulary]
    Scores scores = {};
  };

  Scores run(const data::Batch& batch, Pass pass);
  std::size_t take_group(const data::Batch& batch, std::size_t text);
  void fill_tables();
  void make_room();
  void make_room(Kept& kept) const;
  void begin(bool train);
  void finish();

  void embed(Floats& x) const;
  void embed_backward();
  void layer_forward(StepLayer& layer, Kept& kept, bool keep, Floats& next);
  void mlp_forward(const StepLayer& layer, Kept& kept, bool keep, std::int64_t panel, float* next);
  void layer_backward(std::size_t index, Until until);
  void mlp_backward(std::size_t index, std::int64_t panel, Until until);
  void query_backward(std::size_t index, std::int64_t panel, Until until);

  void head(const Floats& x, Pass& pass);
  void head_panel(std::span<const std::int32_t> columns, Pass& pass);
  void head_backward(std::span<const std::int32_t> columns);

  panels::AttentionShape shape() const;

  StepModel m_;
  std::int64_t heads_width_;  // heads * head_width
  // The lowest layer with something trained, the depth if there is none; how far down it goes.
  std::size_t lowest_;
  Until until_ = Until::down;
  std::vector<StepLinear*> linears_;  // all, the head's as well
  std::vector<Kept> kept_;            // one a layer, and one for the last layer's output
  Group group_;
  std::int64_t positions_ = 0;              // that the tables have
  Floats cosines_, sines_;                  // [head_width / 2, positions]
  std::vector<Floats> d_norms_;             // [2 * depth + 1][width, 16]
  Floats d_x_, d_mixed_, d_qkv_, scratch_;  // of all panels
  Floats normed_, normed_scale_, d_normed_;
  Floats y_, d_y_, tokens_, inner_, logits_;  // of one panel
};

}  // namespace fedctl::learn
