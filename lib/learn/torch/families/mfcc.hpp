// MFCC front end of a Keyword Transformer's file: raw audio at 16 kHz to mel-frequency cepstral
// coefficients, by the matrices that the model was trained with.
#pragma once

#include <optional>

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

class Mfcc {
 public:
  static constexpr std::int64_t kHopSamples = 160;
  struct Sizes {
    std::int64_t samples, bins, mels, coefficients;  // samples: of a frame
  };

  // Nothing if the file has no front end.
  static std::optional<Sizes> sizes(const Checkpoint& file, std::int64_t coefficients);
  // Frames that fit into a clip of so many samples.
  static std::int64_t frames(const Sizes& sizes, std::int64_t clip_samples);

  Mfcc(Builder& builder, const Sizes& sizes);
  // (n, samples) -> (n, frames, coefficients)
  at::Tensor operator()(const at::Tensor& audio) const;

 private:
  Sizes sizes_;
  at::Tensor window_, real_, imaginary_, mel_, floor_, dct_;
};

}  // namespace fedctl::learn
