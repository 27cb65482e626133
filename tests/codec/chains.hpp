// Every chain that the registry allows, for the conformance suite and the fuzz target.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "codec/error_feedback.hpp"
#include "support/plugin.hpp"

namespace fedctl::test {

struct Chain {
  std::string name;  // "topk+quantize, ef14"
  std::vector<config::Plugin> stages;
  std::string error_feedback = "none";
  bool defaults = true;  // no options but those

  std::unique_ptr<codec::Codec> make(std::vector<codec::BlockSize> blocks) const {
    return codec::make_chain(stages, error_feedback, blocks);
  }
};

// Options worth a run of their own, beside the defaults of every codec.
inline std::vector<config::Plugin> variants(const codec::CodecEntry& entry) {
  const config::Kinds& kinds = codec::codec_kinds();
  std::vector<config::Plugin> all = {plugin(kinds, entry.kind.name)};
  if (entry.kind.name == "auto") {
    all.push_back(plugin(kinds, "auto", {{"bits_per_parameter", 0.5}, {"lgreco", 1}}));
  }
  if (entry.kind.name == "eden") {
    all.push_back(plugin(kinds, "eden", {{"bits", 1}, {"keep", 0.3}, {"unbiased", 0}}));
    all.push_back(plugin(kinds, "eden", {{"bits", 4}, {"rounds", 1}}));
  }
  if (entry.kind.name == "kmeans") {
    all.push_back(plugin(kinds, "kmeans", {{"clusters", 4}, {"symmetric", 1}}));
  }
  if (entry.kind.name == "quantize") {
    for (const double bits : {2, 3, 5}) all.push_back(plugin(kinds, "quantize", {{"bits", bits}}));
  }
  if (entry.kind.name == "golomb") all.push_back(plugin(kinds, "golomb", {{"power_of_two", 1}}));
  if (entry.kind.name == "qsgd") {
    all.push_back(plugin(kinds, "qsgd", {{"levels", 1}, {"bucket", 7}}));
  }
  if (entry.kind.name == "randk") {
    all.push_back(plugin(kinds, "randk", {{"ratio", 0.7}, {"unbiased", 0}}));
  }
  if (entry.kind.name == "threshold") {
    all.push_back(plugin(kinds, "threshold", {{"relative", 0.5}}));
  }
  if (entry.kind.name == "sign") all.push_back(plugin(kinds, "sign", {{"rms", 1}}));
  if (entry.kind.name == "topk") {
    all.push_back(plugin(kinds, "topk", {{"ratio", 0.1}, {"chunk", 64}}));
    for (const double ratio : {1e-9, 0.5, 1.0}) {
      all.push_back(plugin(kinds, "topk", {{"ratio", ratio}}));
    }
  }
  return all;
}

inline const codec::CodecEntry& entry_of(const config::Plugin& plugin) {
  for (const codec::CodecEntry& entry : codec::codecs()) {
    if (entry.kind.name == plugin.kind) return entry;
  }
  throw std::logic_error(plugin.kind);
}

inline bool composes(const codec::CodecEntry& first, const codec::CodecEntry& second) {
  return first.stage < second.stage && (second.stage != codec::Stage::coder || first.make_coded);
}

// A coder or a squeezer: the values do not depend on it.
inline bool lossless(const codec::CodecEntry& entry) { return entry.stage >= codec::Stage::coder; }

// Every codec with every variant, every pair of them of which one has its defaults, and every chain
// of three or more with the defaults behind its first codec, before what is lossless with the
// defaults alone. Those of one or two in every error feedback.
inline std::vector<Chain> all_chains() {
  std::vector<Chain> chains;
  for (const codec::CodecEntry& entry : codec::codecs()) {
    if (!entry.make) continue;
    bool defaults = true;
    for (const config::Plugin& first : variants(entry)) {
      chains.push_back({entry.kind.name, {first}, "none", defaults});
      defaults = false;
    }
  }
  for (std::size_t i = 0; i < chains.size(); ++i) {
    const Chain chain = chains[i];  // `chains` grows
    const codec::CodecEntry& last = entry_of(chain.stages.back());
    const bool alone = chain.stages.size() == 1;
    for (const codec::CodecEntry& next : codec::codecs()) {
      if (!composes(last, next) || (lossless(next) && !alone && !chain.defaults)) continue;
      bool defaults = chain.defaults;
      for (const config::Plugin& second : variants(next)) {
        chains.push_back({chain.name + "+" + next.kind.name, chain.stages, "none", defaults});
        chains.back().stages.push_back(second);
        defaults = false;
        if (!alone || !chain.defaults) break;
      }
    }
  }
  const std::size_t plain_count = chains.size();
  for (const codec::ErrorFeedbackEntry& feedback : codec::error_feedbacks()) {
    for (std::size_t i = 0; i < plain_count; ++i) {
      if (chains[i].stages.size() > 2) continue;
      Chain wrapped = chains[i];
      wrapped.name += ", " + feedback.name;
      wrapped.error_feedback = feedback.name;
      chains.push_back(std::move(wrapped));
    }
  }
  return chains;
}

}  // namespace fedctl::test
