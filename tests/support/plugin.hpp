// Plugins with options for tests, without YAML: plugin(codec_kinds(), "topk", {{"ratio", 0.1}}).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "config/fields.hpp"

namespace fedctl::test {

inline config::Plugin plugin(const config::Kinds& kinds, std::string_view name,
                             const std::map<std::string, double>& numbers = {}) {
  return config::make_plugin(kinds, name, numbers);
}

}  // namespace fedctl::test
