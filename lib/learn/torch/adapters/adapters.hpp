// The makers of the adapters.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

#define ADAPTER(name) std::unique_ptr<Adapter> make_##name(const config::Options& options);
#include "learn/adapters.def"
#undef ADAPTER

}  // namespace fedctl::learn
