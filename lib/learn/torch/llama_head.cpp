// The last norm, the output matrix and the loss of the fused step: logits are made for the tokens
// that have a label, one panel at a time, and become their own gradient in place.
#include <algorithm>

#include "learn/torch/llama_step.hpp"

namespace fedctl::learn {
namespace {

using panels::kTokens;

constexpr std::int32_t kNobody = -1;  // a column of a panel that stands for no token

std::size_t place(std::int64_t features, std::int64_t feature, std::int64_t token) {
  return static_cast<std::size_t>((token / kTokens * features + feature) * kTokens +
                                  token % kTokens);
}

}  // namespace

void LlamaStep::head(const Floats& x, Pass& pass) {
  const std::int64_t panel = m_.width * kTokens;
  for (std::int64_t p = 0; p < group_.panels; ++p) {
    panels::norm_forward(m_.width, x.data() + p * panel, m_.norm.values, m_.eps,
                         normed_.data() + p * panel, normed_scale_.data() + p * kTokens);
  }
  const bool backward = pass.train && (lowest_ < m_.layers.size() || m_.norm.gradient != nullptr);
  if (backward) std::fill_n(d_normed_.data(), group_.panels * panel, 0.0F);
  std::int32_t columns[kTokens];
  std::int64_t count = 0;
  const auto flush = [&] {
    if (count == 0) return;
    std::fill(columns + count, columns + kTokens, kNobody);
    head_panel(columns, pass);
    if (backward) head_backward(columns);
    count = 0;
  };
  for (std::int32_t t = 0; t < group_.count; ++t) {
    const bool wanted =
        pass.logits_out != nullptr || group_.labels[static_cast<std::size_t>(t)] != panels::kNone;
    if (wanted) columns[count++] = t;
    if (count == kTokens) flush();
  }
  flush();
  if (!backward) return;
  float* const sums = m_.norm.gradient == nullptr ? nullptr : d_norms_.back().data();
  for (std::int64_t p = 0; p < group_.panels; ++p) {
    panels::norm_backward(m_.width, x.data() + p * panel, m_.norm.values,
                          normed_scale_.data() + p * kTokens, d_normed_.data() + p * panel, nullptr,
                          d_x_.data() + p * panel, sums);
  }
}

// Logits, or their gradient, of these tokens into logits_; scores, and the head's own gradient.
void LlamaStep::head_panel(std::span<const std::int32_t> columns, Pass& pass) {
  std::int32_t labels[kTokens];
  for (std::int64_t i = 0; i < kTokens; ++i) {
    const std::int32_t from = columns[static_cast<std::size_t>(i)];
    labels[i] = from == kNobody ? panels::kNone : group_.labels[static_cast<std::size_t>(from)];
    const std::int32_t token = std::max(from, 0);
    for (std::int64_t f = 0; f < m_.width; ++f) {
      y_[static_cast<std::size_t>(f * kTokens + i)] = normed_[place(m_.width, f, token)];
    }
  }
  m_.head.forward(y_.data(), nullptr, logits_.data());
  if (pass.logits_out != nullptr) {
    for (std::int64_t i = 0; i < kTokens && columns[static_cast<std::size_t>(i)] != kNobody; ++i) {
      float* const row =
          pass.logits_out + (group_.first + columns[static_cast<std::size_t>(i)]) * m_.vocabulary;
      for (std::int64_t c = 0; c < m_.vocabulary; ++c) {
        row[c] = logits_[static_cast<std::size_t>(c * kTokens + i)];
      }
    }
  }
  panels::Losses losses;
  if (pass.train) {
    panels::cross_entropy_backward(m_.vocabulary, logits_.data(), labels, pass.smoothing,
                                   pass.share, losses);
    if (m_.head.trains()) {
      const std::int64_t stride = (m_.width + 15) / 16 * 16;
      panels::to_tokens(m_.width, y_.data(), stride, tokens_.data());
      m_.head.add_gradient(y_.data(), tokens_.data(), stride, logits_.data());
    }
  } else {
    panels::cross_entropy(m_.vocabulary, logits_.data(), labels, losses);
  }
  for (std::int64_t i = 0; i < kTokens; ++i) {
    if (labels[i] == panels::kNone) continue;
    pass.scores.loss_sum += losses.loss[i];
    pass.scores.correct += losses.correct[i] ? 1 : 0;
    ++pass.scores.count;
  }
}

// From the gradient by the logits to that by the normed rows, for these tokens.
void LlamaStep::head_backward(std::span<const std::int32_t> columns) {
  m_.head.backward(logits_.data(), nullptr, d_y_.data());
  for (std::int64_t i = 0; i < kTokens && columns[static_cast<std::size_t>(i)] != kNobody; ++i) {
    const std::int32_t token = columns[static_cast<std::size_t>(i)];
    for (std::int64_t f = 0; f < m_.width; ++f) {
      d_normed_[place(m_.width, f, token)] = d_y_[static_cast<std::size_t>(f * kTokens + i)];
    }
  }
}

}  // namespace fedctl::learn
