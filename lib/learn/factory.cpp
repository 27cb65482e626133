// Opens the LibTorch module when something trains or evaluates a torch model: it costs 0.5 to 0.8 s
// and 160 MB, which `check`, `list` and every torch-free test should not pay.
#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "learn/quadratic.hpp"
#include "learn/spec.hpp"
#include "learn/torch/entry.hpp"

namespace fedctl::learn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModule = "libfedctl_torch.so";

fs::path find_module() {
  if (const char* folder = std::getenv("FEDCTL_MODULE_DIR")) return fs::path(folder) / kModule;
  std::error_code error;
  const fs::path here = fs::read_symlink("/proc/self/exe", error).parent_path();
  // Beside the program: installed (bin, lib/fedctl or lib/<arch>/fedctl) or in a build tree (bin or
  // tests).
  const fs::path library = here.parent_path() / "lib";
  for (const fs::path& folder : {library / "fedctl", library / "x86_64-linux-gnu" / "fedctl",
                                 library / "aarch64-linux-gnu" / "fedctl", here}) {
    if (fs::exists(folder / kModule, error)) return folder / kModule;
  }
  throw DataError(std::string(kModule) + ": not found beside " + here.string(),
                  "build with FEDCTL_TORCH=ON, or set FEDCTL_MODULE_DIR");
}

// OpenBLAS falls back to kernels of 2004 on a processor that is younger than itself: 1.7 times the
// time of an MLP's step (docs/models.md). It asks the environment when it is loaded.
void name_kernels() {
#if defined(__x86_64__)
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512 || avx2) ::setenv("OPENBLAS_CORETYPE", avx512 ? "SkylakeX" : "Haswell", 0);
#endif
}

std::unique_ptr<LearnerFactory> make_torch_factory(const LearnerSpec& spec) {
  const fs::path path = find_module();
  name_kernels();
  // Never closed: its threads and statics live as long as the process.
  void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    throw DataError(path.string() + ": cannot be loaded: " + ::dlerror(),
                    "scripts/setup.sh installs LibTorch");
  }
  void* symbol = ::dlsym(module, kEntrySymbol);
  if (symbol == nullptr) throw DataError(path.string() + ": is of another version", "rebuild");
  return reinterpret_cast<EntryFunction*>(symbol)(spec);
}

class LateFactory final : public LearnerFactory {
 public:
  explicit LateFactory(LearnerSpec spec) : spec_(std::move(spec)) {}
  std::unique_ptr<Learner> make() override {
    if (!factory_) factory_ = make_factory(spec_);
    return factory_->make();
  }

 private:
  LearnerSpec spec_;
  std::unique_ptr<LearnerFactory> factory_;
};

}  // namespace

std::unique_ptr<LearnerFactory> make_late_factory(LearnerSpec spec) {
  check_fit(spec.model, spec.adapter);
  return std::make_unique<LateFactory>(std::move(spec));
}

std::unique_ptr<LearnerFactory> make_factory(const LearnerSpec& spec) {
  check_fit(spec.model, spec.adapter);
  return family(spec.model.kind).needs_torch ? make_torch_factory(spec)
                                             : make_quadratic_factory(spec);
}

}  // namespace fedctl::learn
