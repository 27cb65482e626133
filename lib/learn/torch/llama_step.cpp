// Groups of texts and the order of a pass; the operations are in llama_blocks.cpp and
// llama_head.cpp.
#include "learn/torch/llama_step.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"

namespace fedctl::learn {
namespace {

using panels::kSlack;
using panels::kTokens;

// More tokens share weights that come from the second-level cache; fewer leave more of it to what
// is kept for the backward pass.
constexpr std::int64_t kGroupTokens = 128;

std::vector<float>& grow(std::vector<float>& floats, std::int64_t count) {
  const auto size = static_cast<std::size_t>(count + kSlack);
  if (floats.size() < size) floats.resize(size);
  return floats;
}

}  // namespace

LlamaStep::LlamaStep(StepModel model)
    : m_(std::move(model)),
      heads_width_(m_.heads * m_.head_width),
      lowest_(m_.layers.size()),
      kept_(m_.layers.size() + 1),
      d_norms_(2 * m_.layers.size() + 1) {
  const bool all = m_.embedding.gradient != nullptr;
  for (std::size_t i = m_.layers.size(); i-- > 0;) {
    StepLayer& l = m_.layers[i];
    for (StepLinear* linear : {&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down}) {
      linears_.push_back(linear);
    }
    std::optional<Until> found;
    if (l.down.trains()) found = Until::down;
    if (l.gate.trains() || l.up.trains()) found = Until::gate;
    if (l.mlp_norm.gradient != nullptr) found = Until::mlp_norm;
    if (l.output.trains()) found = Until::output;
    if (l.query.trains() || l.key.trains() || l.value.trains()) found = Until::query;
    if (l.attention_norm.gradient != nullptr || all) found = Until::below;
    if (!found) continue;
    lowest_ = i;
    until_ = *found;
  }
  linears_.push_back(&m_.head);
  const std::int64_t widest = std::max({m_.width, heads_width_, m_.hidden});
  grow(y_, m_.width * kTokens);
  grow(d_y_, m_.width * kTokens);
  grow(tokens_, (widest + 15) / 16 * 16 * kTokens);
  grow(inner_, m_.hidden * kTokens);
  grow(logits_, m_.vocabulary * kTokens);
}

Scores LlamaStep::evaluate(const data::Batch& batch, float* logits_out) {
  return run(batch, {.logits_out = logits_out});
}

Scores LlamaStep::loss_and_gradient(const data::Batch& batch, double smoothing) {
  std::int64_t count = 0;
  for (const std::int64_t label : batch.at("labels").i64()) count += label != data::kIgnore ? 1 : 0;
  const float share = count == 0 ? 0 : 1 / static_cast<float>(count);
  return run(batch, {.train = true, .smoothing = smoothing, .share = share});
}

Scores LlamaStep::run(const data::Batch& batch, Pass pass) {
  begin(pass.train);
  const std::size_t depth = m_.layers.size();
  const bool keep = pass.train && lowest_ < depth;
  const auto texts = static_cast<std::size_t>(batch.at("lengths").shape[0]);
  // Without a backward pass the layers take turns in two buffers.
  const auto kept = [&](std::size_t layer) -> Kept& { return kept_[keep ? layer : layer % 2]; };
  for (std::size_t text = 0; text < texts;) {
    text = take_group(batch, text);
    make_room();
    make_room(kept(0));
    embed(kept(0).x);
    for (std::size_t i = 0; i < depth; ++i) {
      make_room(kept(i + 1));
      layer_forward(m_.layers[i], kept(i), keep, kept(i + 1).x);
    }
    head(kept(depth).x, pass);
    if (!keep) continue;
    for (std::size_t i = depth; i-- > lowest_;) {
      layer_backward(i, i == lowest_ ? until_ : Until::below);
    }
    if (m_.embedding.gradient != nullptr) embed_backward();
  }
  if (pass.train) finish();
  return pass.scores;
}

// Takes texts from `text` on; returns the first that is left.
std::size_t LlamaStep::take_group(const data::Batch& batch, std::size_t text) {
  const auto lengths = batch.at("lengths").i64();
  const auto tokens = batch.at("tokens").i64();
  const auto found = batch.find("labels");
  Group& g = group_;
  g.first = text == 0 ? 0 : g.first + g.count;
  g.count = 0;
  for (auto* list : {&g.tokens, &g.labels, &g.start, &g.end}) list->clear();
  while (text < lengths.size() && (g.count == 0 || g.count + lengths[text] <= kGroupTokens)) {
    const std::int64_t length = lengths[text++];
    for (std::int64_t i = 0; i < length; ++i) {
      const auto at = static_cast<std::size_t>(g.first + g.count + i);
      const std::int64_t label = found == batch.end() ? data::kIgnore : found->second.i64()[at];
      g.tokens.push_back(static_cast<std::int32_t>(tokens[at]));
      g.labels.push_back(label == data::kIgnore ? panels::kNone : static_cast<std::int32_t>(label));
      g.start.push_back(static_cast<std::int32_t>(g.count));
      g.end.push_back(static_cast<std::int32_t>(g.count + length));
    }
    g.count += length;
  }
  g.panels = (g.count + kTokens - 1) / kTokens;
  for (std::int64_t t = g.count; t < g.panels * kTokens; ++t) {
    g.tokens.push_back(g.tokens[0]);
    g.labels.push_back(panels::kNone);
    g.start.push_back(static_cast<std::int32_t>(t));
    g.end.push_back(static_cast<std::int32_t>(t) + 1);
  }
  fill_tables();
  return text;
}

// Cosine and sine of position * theta^(-2 d / head_width), for the positions of the group's tokens.
void LlamaStep::fill_tables() {
  Group& g = group_;
  const std::int64_t half = m_.head_width / 2, tokens = g.panels * kTokens;
  std::int64_t longest = 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    longest = std::max<std::int64_t>(longest, g.end[at] - g.start[at]);
  }
  if (longest > positions_) {
    positions_ = std::max<std::int64_t>(128, 2 * longest);
    grow(cosines_, half * positions_);
    grow(sines_, half * positions_);
    for (std::int64_t d = 0; d < half; ++d) {
      const double power = -2.0 * static_cast<double>(d) / static_cast<double>(m_.head_width);
      const double frequency = std::pow(m_.theta, power);
      for (std::int64_t i = 0; i < positions_; ++i) {
        const auto at = static_cast<std::size_t>(d * positions_ + i);
        cosines_[at] = static_cast<float>(std::cos(static_cast<double>(i) * frequency));
        sines_[at] = static_cast<float>(std::sin(static_cast<double>(i) * frequency));
      }
    }
  }
  grow(g.cosine, tokens * half);
  grow(g.sine, tokens * half);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t position = t - g.start[static_cast<std::size_t>(t)];
    for (std::int64_t d = 0; d < half; ++d) {
      const auto to = static_cast<std::size_t>((t / kTokens * half + d) * kTokens + t % kTokens);
      g.cosine[to] = cosines_[static_cast<std::size_t>(d * positions_ + position)];
      g.sine[to] = sines_[static_cast<std::size_t>(d * positions_ + position)];
    }
  }
}

panels::AttentionShape LlamaStep::shape() const {
  return {group_.panels * kTokens, m_.heads,         m_.kv_heads, m_.head_width,
          group_.start.data(),     group_.end.data()};
}

// Buffers grow to the longest group seen; what they hold from earlier ones is never read.
void LlamaStep::make_room() {
  const std::int64_t tokens = group_.panels * kTokens;
  const panels::AttentionShape s = shape();
  for (Floats* floats : {&d_x_, &normed_, &d_normed_}) grow(*floats, tokens * m_.width);
  grow(normed_scale_, tokens);
  grow(d_mixed_, tokens * heads_width_);
  grow(d_qkv_, tokens * s.features());
  grow(scratch_, s.scratch_floats());
}

void LlamaStep::make_room(Kept& kept) const {
  const std::int64_t tokens = group_.panels * kTokens;
  for (Floats* floats : {&kept.x, &kept.z}) grow(*floats, tokens * m_.width);
  for (Floats* floats : {&kept.attention_scale, &kept.mlp_scale}) grow(*floats, tokens);
  for (Floats* floats : {&kept.gate, &kept.up, &kept.inner}) grow(*floats, tokens * m_.hidden);
  for (Floats* floats : {&kept.peak, &kept.inverse}) grow(*floats, tokens * m_.heads);
  grow(kept.mixed, tokens * heads_width_);
  grow(kept.qkv, tokens * shape().features());
}

void LlamaStep::begin(bool train) {
  for (StepLinear* linear : linears_) linear->begin();
  if (!train) return;
  for (Floats& sums : d_norms_) {
    sums.assign(static_cast<std::size_t>(m_.width * 16), 0.0F);
  }
}

void LlamaStep::finish() {
  for (StepLinear* linear : linears_) linear->finish();
  for (std::size_t i = 0; i < d_norms_.size(); ++i) {
    const std::size_t layer = i / 2;
    const StepVector& norm = layer == m_.layers.size() ? m_.norm
                             : i % 2 == 0              ? m_.layers[layer].attention_norm
                                                       : m_.layers[layer].mlp_norm;
    if (norm.gradient == nullptr) continue;
    for (std::int64_t f = 0; f < m_.width; ++f) {
      const float* const lanes = d_norms_[i].data() + f * 16;
      for (int t = 0; t < 16; ++t) norm.gradient[f] += lanes[t];
    }
  }
}

}  // namespace fedctl::learn
