// A model with its adapter merged into the weights.
#pragma once

#include "learn/torch/save.hpp"

namespace fedctl::learn {

// config.json and model.safetensors with every parameter, each adapted layer's matrix and bias as
// Delta::merged() gives them; no name is left for trained values. Throws ConfigError for adapters
// that are no change of a weight (prompts, prefixes).
AdapterFiles merged_files(const Saved& saved);

}  // namespace fedctl::learn
