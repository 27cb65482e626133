// The table of adapters, what several of them share, and the two that need no file of their own:
// `head` trains the output layer, `full` everything.
#include "learn/torch/adapters/adapters.hpp"

#include <algorithm>

namespace fedctl::learn {
namespace {

class Head final : public Adapter {
 public:
  bool trains_head() const override { return true; }
};
class Full final : public Adapter {
 public:
  bool trains_base() const override { return true; }
  bool trains_head() const override { return true; }
};

}  // namespace

bool targeted(const std::vector<std::string>& targets, const Site& site) {
  return std::ranges::any_of(
      targets, [&](const std::string& target) { return fits(target, site.module, site.target); });
}

void require_matches(const Builder& builder, const std::string& key,
                     const std::vector<std::string>& targets) {
  for (const std::string& target : targets) {
    if (!is_pattern(target)) continue;
    const bool found = std::ranges::any_of(builder.modules(), [&](const auto& layer) {
      return !layer.first.empty() && fits(target, layer.second, layer.first);
    });
    if (found) continue;
    const auto any = std::ranges::find_if(builder.modules(),
                                          [](const auto& layer) { return !layer.first.empty(); });
    throw ConfigError("adapter." + key + " has the pattern \"" + target + "\", which fits no layer",
                      any == builder.modules().end() ? "" : "a layer's name is " + any->second);
  }
}

std::string adapted_endings(const PeftContext& context) {
  std::vector<std::string> modules;
  for (const Adapted& layer : context.adapted) modules.push_back(layer.module);
  return context.endings(modules);
}

std::unique_ptr<Adapter> make_head(const config::Options&) { return std::make_unique<Head>(); }
std::unique_ptr<Adapter> make_full(const config::Options&) { return std::make_unique<Full>(); }

std::unique_ptr<Adapter> make_adapter(const config::Plugin& adapter) {
#define ADAPTER(name) \
  if (adapter.kind == #name) return make_##name(*adapter.options);
#include "learn/adapters.def"
#undef ADAPTER
  throw ConfigError("no adapter \"" + adapter.kind + '"', "fedctl list adapters");
}

}  // namespace fedctl::learn
