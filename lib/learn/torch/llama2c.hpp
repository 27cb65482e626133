// llama2.c's model file, version 0 (Karpathy, llama2.c, export.py, "legacy export"): seven int32
// (dim, hidden, layers, heads, kv_heads, vocabulary, context; a negative vocabulary says that the
// output matrix is the file's last tensor), then float32 tensors in a fixed order.
#pragma once

#include <map>
#include <string>

#include "base/tensor.hpp"

namespace fedctl::learn {

struct Llama2c {
  std::map<std::string, double> config;  // keys of HF's config.json
  TensorMap tensors;                     // names of HF's LlamaForCausalLM, rows in HF's order
};

// Throws DataError naming the file and the place: a header that cannot be, a file that is shorter
// or longer than its header says (nothing is allocated before that is known).
Llama2c read_llama2c(const std::string& path);

}  // namespace fedctl::learn
