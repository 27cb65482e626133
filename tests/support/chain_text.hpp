// Chains as the benches name them: topk:ratio=0.05:chunk=64+sign.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "support/plugin.hpp"

namespace fedctl::test {

inline std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char letter : text) {
    if (letter == separator) {
      parts.emplace_back();
    } else {
      parts.back() += letter;
    }
  }
  return parts;
}

inline std::vector<config::Plugin> chain_of(const std::string& text) {
  std::vector<config::Plugin> chain;
  for (const std::string& stage : split(text, '+')) {
    const std::vector<std::string> parts = split(stage, ':');
    std::map<std::string, double> options;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const std::vector<std::string> pair = split(parts[i], '=');
      options[pair.at(0)] = std::stod(pair.at(1));
    }
    chain.push_back(plugin(codec::codec_kinds(), parts[0], options));
  }
  return chain;
}

}  // namespace fedctl::test
