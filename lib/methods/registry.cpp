#include "methods/method.hpp"

namespace fedctl::methods {

#define METHOD(name) MethodEntry name();
#include "methods/methods.def"
#undef METHOD

const std::vector<MethodEntry>& methods() {
  static const std::vector<MethodEntry> kTable = {
#define METHOD(name) name(),
#include "methods/methods.def"
#undef METHOD
  };
  return kTable;
}

const config::Kinds& method_kinds() {
  static const config::Kinds kKinds = [] {
    config::Kinds kinds;
    for (const MethodEntry& entry : methods()) kinds.push_back(entry.kind);
    return kinds;
  }();
  return kKinds;
}

const MethodEntry& method(std::string_view kind) {
  for (const MethodEntry& entry : methods()) {
    if (entry.kind.name == kind) return entry;
  }
  throw ConfigError("no method \"" + std::string(kind) + '"', "fedctl list methods");
}

}  // namespace fedctl::methods
