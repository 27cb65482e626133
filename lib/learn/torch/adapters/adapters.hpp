// The makers of the adapters, and what several of them share.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

#define ADAPTER(name) std::unique_ptr<Adapter> make_##name(const config::Options& options);
#include "learn/adapters.def"
#undef ADAPTER

// Whether one of `targets` fits the layer.
bool targeted(const std::vector<std::string>& targets, const Site& site);
// Throws ConfigError if a pattern of adapter.`key` fits no layer of the model.
void require_matches(const Builder& builder, const std::string& key,
                     const std::vector<std::string>& targets);
// JSON list of the modules that the adapter hangs on.
std::string adapted_endings(const PeftContext& context);

}  // namespace fedctl::learn
