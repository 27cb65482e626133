// A model with its adapter merged into the weights.
#pragma once

#include "data/safetensors.hpp"
#include "learn/torch/save.hpp"

namespace fedctl::learn {

// config.json and model.safetensors with every parameter, each adapted layer's matrix and bias as
// Delta::merged() gives them. Throws ConfigError for adapters that are no change of a weight
// (prompts, prefixes), DataError if the folder cannot be written or a value does not fit `storage`.
void merge_folder(const Saved& saved, data::Storage storage);

}  // namespace fedctl::learn
