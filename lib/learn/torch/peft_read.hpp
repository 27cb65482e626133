// PEFT adapter folders coming in: adapter_config.json and adapter_model.safetensors of the types
// LORA (with DoRA), IA3, PROMPT_TUNING and PREFIX_TUNING, as Python's peft (0.4 and later) or
// fedctl writes them; VERA as fedctl does. Torch-free. Everything read is hostile until checked.
#pragma once

#include <map>
#include <span>
#include <string>

#include "base/layout.hpp"
#include "config/fields.hpp"

namespace fedctl::learn {

// The adapter's parts that are not trained, by name: VeRA's projections.
using Frozen = std::map<std::string, std::span<const float>>;

// Fills `weights` (of `layout`) with the folder's values. A trained output layer that the folder
// does not hold keeps its values, since PEFT saves none where modules_to_save is null. Adapters
// that are saved as whole models (head, full) are read from model.safetensors. Throws DataError
// naming the file and the key or tensor: another type, rank or scale than `adapter` has, a tensor
// missing, of another shape, not finite, or left over. `weights` are untouched then.
void read_adapter(const std::string& folder, const config::Plugin& adapter, const Layout& layout,
                  const Frozen& frozen, std::span<float> weights);

}  // namespace fedctl::learn
