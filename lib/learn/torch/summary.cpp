#include "learn/torch/summary.hpp"

#include "base/digest.hpp"
#include "learn/torch/convert.hpp"

namespace fedctl::learn {

std::set<std::string> trained_names(const Layout& layout) {
  std::set<std::string> names;
  for (const Block& block : layout.blocks()) names.insert(block.name);
  return names;
}

BaseSummary summarize(const Base& base, const Layout& layout, const std::string& settings) {
  const std::set<std::string> trained = trained_names(layout);
  bool all_trained = true;
  for (const auto& [name, tensor] : base.tensors)
    all_trained = all_trained && (trained.contains(name) || base.constants.contains(name));
  BaseSummary summary;
  Digest digest;
  digest.add(settings);
  for (const auto& [name, tensor] : base.tensors) {
    const bool frozen = !trained.contains(name);
    const bool parameter = !base.constants.contains(name);
    if (frozen && parameter) summary.parameters += static_cast<std::size_t>(tensor.numel());
    if (!frozen && !all_trained) continue;
    digest.add(name).add(to_string(shape_of(tensor)));
    const auto rounded = base.rounded.find(name);
    if (rounded != base.rounded.end()) {
      digest.add(rounded->second);
    } else {
      digest.add(std::as_bytes(values_of(tensor)));
    }
  }
  for (const auto& [name, tensor] : base.of_adapter) {
    digest.add(name).add(to_string(shape_of(tensor))).add(std::as_bytes(values_of(tensor)));
  }
  summary.digest = digest.hex();
  return summary;
}

}  // namespace fedctl::learn
