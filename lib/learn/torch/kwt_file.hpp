// A Keyword Transformer's file without config.json: one .safetensors whose tensors say the
// dimensions, with the class names in labels.txt beside it. Torch-free.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/safetensors.hpp"

namespace fedctl::learn {

struct KwtFile {
  data::Safetensors tensors;
  // What config.json of a kwt model holds: hidden_size, num_hidden_layers, num_attention_heads,
  // intermediate_size, num_frames, num_coefficients; with a front end frame_samples, dft_bins and
  // mel_bins.
  std::map<std::string, double> config;
  std::vector<std::string> classes;  // empty without labels.txt
};
// `path` is the file, or a folder with exactly one. Throws DataError.
KwtFile read_kwt_file(const std::string& path);

}  // namespace fedctl::learn
