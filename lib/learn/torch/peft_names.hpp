// The names that PEFT gives to a model's modules: those of transformers' Python objects, which are
// not always those in the model's file.
#pragma once

#include <string>

namespace fedctl::learn {

// `name` (of a module or parameter, as in HF's files) as transformers 5 and PEFT name it. Since 5.x
// the modules of ViT have shorter names in memory ("vit.layers.0.attention.q_proj"), while
// model.safetensors keeps the old ones, and PEFT converts neither.
std::string peft_name(const std::string& name);

}  // namespace fedctl::learn
