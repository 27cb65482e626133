#include "learn/torch/families/mfcc.hpp"

namespace fedctl::learn {

std::optional<Mfcc::Sizes> Mfcc::sizes(const Checkpoint& file, std::int64_t coefficients) {
  if (!file.has("frame_samples")) return std::nullopt;
  const auto size = [&](const char* key) { return file.integer(key, 1, 1 << 16); };
  return Sizes{size("frame_samples"), size("dft_bins"), size("mel_bins"), coefficients};
}

std::int64_t Mfcc::frames(const Sizes& sizes, std::int64_t clip_samples) {
  return clip_samples < sizes.samples ? 0 : 1 + (clip_samples - sizes.samples) / kHopSamples;
}

Mfcc::Mfcc(Builder& builder, const Sizes& sizes) : sizes_(sizes) {
  const std::string top = "frontend.";
  window_ = builder.constant(top + "window", {sizes.samples});
  real_ = builder.constant(top + "dft_real", {sizes.bins, sizes.samples});
  imaginary_ = builder.constant(top + "dft_imag", {sizes.bins, sizes.samples});
  mel_ = builder.constant(top + "mel", {sizes.mels, sizes.bins});
  floor_ = builder.constant(top + "log_floor", {1});
  dct_ = builder.constant(top + "dct", {sizes.coefficients, sizes.mels});
}

at::Tensor Mfcc::operator()(const at::Tensor& audio) const {
  const at::NoGradGuard guard;
  const at::Tensor frames = audio.unfold(1, sizes_.samples, kHopSamples) * window_;
  const at::Tensor magnitude =
      (at::linear(frames, real_).square() + at::linear(frames, imaginary_).square()).sqrt_();
  return at::linear(at::maximum(at::linear(magnitude, mel_), floor_).log_(), dct_);
}

}  // namespace fedctl::learn
