// A layer of the fused step, forward and backward, panel by panel but for the attention:
//   z = x + output(attention(norm x)),   next = z + down(swiglu(gate(norm z), up(norm z)))
#include <algorithm>
#include <cmath>

#include "learn/torch/llama_step.hpp"

namespace fedctl::learn {
namespace {

using panels::kTokens;

// Panel `index` of panels of `features`.
float* panel_of(std::vector<float>& floats, std::int64_t features, std::int64_t index) {
  return floats.data() + index * features * kTokens;
}

std::int64_t whole(std::int64_t features) { return (features + 15) / 16 * 16; }

}  // namespace

void LlamaStep::embed(Floats& x) const {
  for (std::int64_t t = 0; t < group_.panels * kTokens; ++t) {
    const float* const row =
        m_.embedding.values + group_.tokens[static_cast<std::size_t>(t)] * m_.width;
    float* const to = x.data() + t / kTokens * m_.width * kTokens + t % kTokens;
    for (std::int64_t f = 0; f < m_.width; ++f) to[f * kTokens] = row[f];
  }
}

void LlamaStep::embed_backward() {
  for (std::int64_t t = 0; t < group_.count; ++t) {
    float* const row =
        m_.embedding.gradient + group_.tokens[static_cast<std::size_t>(t)] * m_.width;
    const float* const from = d_x_.data() + t / kTokens * m_.width * kTokens + t % kTokens;
    for (std::int64_t f = 0; f < m_.width; ++f) row[f] += from[f * kTokens];
  }
}

void LlamaStep::layer_forward(StepLayer& layer, Kept& kept, bool keep, Floats& next) {
  const std::int64_t features = shape().features(), half = m_.head_width / 2;
  const float scale = panels::kLog2E / std::sqrt(static_cast<float>(m_.head_width));
  for (std::int64_t p = 0; p < group_.panels; ++p) {
    float* const q = panel_of(kept.qkv, features, p);
    float* const k = q + heads_width_ * kTokens;
    float* const v = k + m_.kv_heads * m_.head_width * kTokens;
    const float* const c = panel_of(group_.cosine, half, p);
    const float* const s = panel_of(group_.sine, half, p);
    panels::norm_forward(m_.width, panel_of(kept.x, m_.width, p), layer.attention_norm.values,
                         m_.eps, y_.data(), panel_of(kept.attention_scale, 1, p));
    layer.query.forward(y_.data(), nullptr, q);
    layer.key.forward(y_.data(), nullptr, k);
    layer.value.forward(y_.data(), nullptr, v);
    panels::rotate(m_.heads, half, c, s, false, scale, q);
    panels::rotate(m_.kv_heads, half, c, s, false, 1, k);
  }
  panels::attention_forward(shape(), kept.qkv.data(), scratch_.data(), kept.mixed.data(),
                            kept.peak.data(), kept.inverse.data());
  for (std::int64_t p = 0; p < group_.panels; ++p) {
    mlp_forward(layer, kept, keep, p, panel_of(next, m_.width, p));
  }
}

void LlamaStep::mlp_forward(const StepLayer& layer, Kept& kept, bool keep, std::int64_t panel,
                            float* next) {
  float* const z = panel_of(kept.z, m_.width, panel);
  layer.output.forward(panel_of(kept.mixed, heads_width_, panel), panel_of(kept.x, m_.width, panel),
                       z);
  panels::norm_forward(m_.width, z, layer.mlp_norm.values, m_.eps, y_.data(),
                       panel_of(kept.mlp_scale, 1, panel));
  // Only a backward pass looks at them later.
  const std::int64_t place = keep ? panel : 0;
  float* const gate = panel_of(kept.gate, m_.hidden, place);
  float* const up = panel_of(kept.up, m_.hidden, place);
  layer.gate.forward(y_.data(), nullptr, gate);
  layer.up.forward(y_.data(), nullptr, up);
  float* inner = gate;
  if (keep) {
    inner = layer.down.trains() ? panel_of(kept.inner, m_.hidden, place) : inner_.data();
    panels::swiglu_slopes(m_.hidden * kTokens, gate, up, inner);
  } else {
    panels::swiglu(m_.hidden * kTokens, gate, up);
  }
  layer.down.forward(inner, z, next);
}

// From d_x_, the gradient by what the layer gives, to that by what it takes.
void LlamaStep::layer_backward(std::size_t index, Until until) {
  for (std::int64_t p = 0; p < group_.panels; ++p) mlp_backward(index, p, until);
  if (until < Until::query) return;
  Kept& kept = kept_[index];
  panels::attention_backward(shape(), kept.qkv.data(), kept.mixed.data(), kept.peak.data(),
                             kept.inverse.data(), d_mixed_.data(), scratch_.data(), d_qkv_.data());
  for (std::int64_t p = 0; p < group_.panels; ++p) query_backward(index, p, until);
}

void LlamaStep::mlp_backward(std::size_t index, std::int64_t panel, Until until) {
  StepLayer& layer = m_.layers[index];
  Kept& kept = kept_[index];
  float* const d_x = panel_of(d_x_, m_.width, panel);
  float* const gate = panel_of(kept.gate, m_.hidden, panel);
  float* const up = panel_of(kept.up, m_.hidden, panel);
  if (layer.down.trains()) {
    const float* const inner = panel_of(kept.inner, m_.hidden, panel);
    panels::to_tokens(m_.hidden, inner, whole(m_.hidden), tokens_.data());
    layer.down.add_gradient(inner, tokens_.data(), whole(m_.hidden), d_x);
  }
  if (until == Until::down) return;
  layer.down.backward(d_x, nullptr, inner_.data());
  panels::swiglu_backward(m_.hidden * kTokens, gate, up, inner_.data());
  const float* const z = panel_of(kept.z, m_.width, panel);
  const float* const scale = panel_of(kept.mlp_scale, 1, panel);
  if (layer.gate.trains() || layer.up.trains()) {
    panels::norm_again(m_.width, z, layer.mlp_norm.values, scale, y_.data());
    panels::to_tokens(m_.width, y_.data(), whole(m_.width), tokens_.data());
    layer.gate.add_gradient(y_.data(), tokens_.data(), whole(m_.width), gate);
    layer.up.add_gradient(y_.data(), tokens_.data(), whole(m_.width), up);
  }
  if (until == Until::gate) return;
  layer.gate.backward(gate, nullptr, d_y_.data());
  layer.up.backward(up, d_y_.data(), d_y_.data());
  float* const sums = layer.mlp_norm.gradient == nullptr ? nullptr : d_norms_[2 * index + 1].data();
  panels::norm_backward(m_.width, z, layer.mlp_norm.values, scale, d_y_.data(), d_x, d_x, sums);
  if (until == Until::mlp_norm) return;
  if (layer.output.trains()) {
    const float* const mixed = panel_of(kept.mixed, heads_width_, panel);
    panels::to_tokens(heads_width_, mixed, whole(heads_width_), tokens_.data());
    layer.output.add_gradient(mixed, tokens_.data(), whole(heads_width_), d_x);
  }
  if (until == Until::output) return;
  layer.output.backward(d_x, nullptr, panel_of(d_mixed_, heads_width_, panel));
}

void LlamaStep::query_backward(std::size_t index, std::int64_t panel, Until until) {
  StepLayer& layer = m_.layers[index];
  Kept& kept = kept_[index];
  const std::int64_t half = m_.head_width / 2;
  float* const q = panel_of(d_qkv_, shape().features(), panel);
  float* const k = q + heads_width_ * kTokens;
  const float* const v = k + m_.kv_heads * m_.head_width * kTokens;
  const float* const c = panel_of(group_.cosine, half, panel);
  const float* const s = panel_of(group_.sine, half, panel);
  const float scale = 1.0F / std::sqrt(static_cast<float>(m_.head_width));
  panels::rotate(m_.heads, half, c, s, true, scale, q);
  panels::rotate(m_.kv_heads, half, c, s, true, 1 / panels::kLog2E, k);
  const float* const x = panel_of(kept.x, m_.width, panel);
  const float* const norm = layer.attention_norm.values;
  const float* const inverse = panel_of(kept.attention_scale, 1, panel);
  if (layer.query.trains() || layer.key.trains() || layer.value.trains()) {
    panels::norm_again(m_.width, x, norm, inverse, y_.data());
    panels::to_tokens(m_.width, y_.data(), whole(m_.width), tokens_.data());
    layer.query.add_gradient(y_.data(), tokens_.data(), whole(m_.width), q);
    layer.key.add_gradient(y_.data(), tokens_.data(), whole(m_.width), k);
    layer.value.add_gradient(y_.data(), tokens_.data(), whole(m_.width), v);
  }
  if (until == Until::query) return;
  layer.query.backward(q, nullptr, d_y_.data());
  layer.key.backward(k, d_y_.data(), d_y_.data());
  layer.value.backward(v, d_y_.data(), d_y_.data());
  float* const sums =
      layer.attention_norm.gradient == nullptr ? nullptr : d_norms_[2 * index].data();
  float* const d_x = panel_of(d_x_, m_.width, panel);
  panels::norm_backward(m_.width, x, norm, inverse, d_y_.data(), d_x, d_x, sums);
}

}  // namespace fedctl::learn
