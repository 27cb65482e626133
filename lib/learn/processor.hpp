// What this processor is slow at.
#pragma once

#include <string>

#include "config/fields.hpp"

namespace fedctl::learn {

// Whether it has instructions that multiply bfloat16 (AVX512-BF16 or AMX).
bool multiplies_bfloat16();

// A warning for whoever computes with this model on a processor with or without them; "" if there
// is nothing to say.
std::string slow_here(const config::Plugin& model, bool bfloat16 = multiplies_bfloat16());

}  // namespace fedctl::learn
