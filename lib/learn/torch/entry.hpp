// The one symbol of the LibTorch module. Its name changes when the interface does.
#pragma once

#include <memory>

#include "learn/spec.hpp"

namespace fedctl::learn {

using EntryFunction = std::unique_ptr<LearnerFactory>(const LearnerSpec&);
inline constexpr const char* kEntrySymbol = "fedctl_learn_torch_v1";

}  // namespace fedctl::learn
