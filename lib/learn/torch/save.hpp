// What a run leaves for other tools: a PEFT adapter folder, or a whole model as an HF folder.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

struct Saved {
  const LearnerSpec& spec;
  const Adapter& adapter;
  const Family& family;
  const std::multimap<std::string, std::string>& modules;  // Builder::modules()
  const std::vector<Adapted>& adapted;
  const Prefix& prefix;
  const Layout& layout;
  std::span<const float> weights;
  const Base& base;
};
// Adapters that PEFT knows: adapter_config.json and adapter_model.safetensors. Others (bitfit,
// full, head): config.json and model.safetensors with every parameter.
AdapterFiles adapter_files(const Saved& saved);
// The names, config.json and metadata of the latter.
void whole_model(const Saved& saved, AdapterFiles& files);

// The shortest endings ("q_proj", "0.output.dense"), in whole words between dots, that PEFT finds
// exactly `chosen` by and none of `others`.
std::vector<std::string> peft_targets(const std::vector<std::string>& chosen,
                                      const std::vector<std::string>& others);

}  // namespace fedctl::learn
