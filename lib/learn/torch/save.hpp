// What a run leaves for other tools: a PEFT adapter folder, or a whole model as an HF folder.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

struct Saved {
  const LearnerSpec& spec;
  const Family& family;
  const Layout& layout;
  std::span<const float> weights;
  const std::map<std::string, torch::Tensor>& base;
  const std::string& folder;
  const std::map<std::string, std::string>& provenance;  // goes into __metadata__
};
// lora, prompt: adapter_config.json and adapter_model.safetensors. head, full: config.json and model.safetensors with every
// parameter. Files replace older ones atomically. Throws DataError if the folder cannot be written.
void save_folder(const Saved& saved);

}  // namespace fedctl::learn
