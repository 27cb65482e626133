#include "learn/processor.hpp"

#include "learn/spec.hpp"

namespace fedctl::learn {

bool multiplies_bfloat16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0 || __builtin_cpu_supports("amx-bf16") != 0;
#else
  return false;
#endif
}

std::string slow_here(const config::Plugin& model, bool bfloat16) {
  const auto* options = dynamic_cast<const ModelOptions*>(model.options.get());
  if (bfloat16 || options == nullptr || options->backbone_dtype != "bfloat16") return "";
  return "model.backbone_dtype is bfloat16, and this processor has neither AVX512-BF16 nor AMX: it "
         "halves the memory of the frozen matrices here, but is several times slower than float32";
}

}  // namespace fedctl::learn
