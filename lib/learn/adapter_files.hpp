// What a run leaves for other tools, an adapter folder as PEFT or a model folder as HF reads it,
// but for the trained values: whoever has those writes the folder without the model.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/layout.hpp"
#include "data/safetensors.hpp"

namespace fedctl::learn {

struct AdapterFiles {
  std::string weights_name, config_name;  // "adapter_model.safetensors", "adapter_config.json"
  std::string config;                     // what stands in it
  std::map<std::string, std::string> metadata;  // of the weights' file
  std::vector<std::string> names;  // of the trained tensors there, by the layout's blocks
  TensorMap frozen;                // f32: what stands there beside them
};

// Writes the folder with these trained values (layout.size() floats); `provenance` goes beside the
// metadata. Files replace older ones atomically. Throws RunDirectoryError if one cannot be written,
// DataError if a value does not fit `storage`.
void save_adapter(AdapterFiles files, const Layout& layout, std::span<const float> weights,
                  const std::string& folder, const std::map<std::string, std::string>& provenance,
                  data::Storage storage = data::Storage::f32);

}  // namespace fedctl::learn
