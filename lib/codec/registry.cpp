#include "codec/codec.hpp"
#include "codec/detail/fixed_width.hpp"
#include "codec/detail/float32.hpp"
#include "codec/error_feedback.hpp"

namespace fedctl::codec {

#define CODEC(name) CodecEntry name();
#include "codec/codecs.def"
#undef CODEC

#define ERROR_FEEDBACK(name) ErrorFeedbackEntry name();
#include "codec/error_feedbacks.def"
#undef ERROR_FEEDBACK

const std::vector<CodecEntry>& codecs() {
  static const std::vector<CodecEntry> entries = [] {
    std::vector<CodecEntry> all = {
#define CODEC(name) name(),
#include "codec/codecs.def"
#undef CODEC
    };
    // Where nobody takes them, values that are handed on travel as float32, and a quantizer's
    // numbers in fixed width.
    for (CodecEntry& entry : all) {
      if (entry.make_before) {
        entry.make = [before = entry.make_before](const config::Options& options, Blocks blocks) {
          return before(options, blocks,
                        [](Blocks) { return std::make_unique<detail::Float32>(); });
        };
      } else if (entry.make_coded) {
        entry.make = [coded = entry.make_coded](const config::Options& options, Blocks blocks) {
          return coded(options, blocks, std::make_unique<detail::FixedWidth>());
        };
      }
    }
    return all;
  }();
  return entries;
}

const config::Kinds& codec_kinds() {
  static const config::Kinds kinds = [] {
    config::Kinds all;
    for (const CodecEntry& entry : codecs()) all.push_back(entry.kind);
    return all;
  }();
  return kinds;
}

Promises promises_of(const std::vector<config::Plugin>& chain) {
  Promises all{true, true, true};
  for (const config::Plugin& plugin : chain) {
    for (const CodecEntry& entry : codecs()) {
      // Entropy coders and byte compressors lose nothing.
      if (entry.kind.name != plugin.kind || entry.stage >= Stage::coder) continue;
      const Promises one =
          entry.promises_with ? entry.promises_with(*plugin.options) : entry.promises;
      all.linear = all.linear && one.linear;
      all.unbiased = all.unbiased && one.unbiased;
      all.contractive = all.contractive && one.contractive;
    }
  }
  return all;
}

const std::vector<ErrorFeedbackEntry>& error_feedbacks() {
  static const std::vector<ErrorFeedbackEntry> entries = {
#define ERROR_FEEDBACK(name) name(),
#include "codec/error_feedbacks.def"
#undef ERROR_FEEDBACK
  };
  return entries;
}

const ErrorFeedbackEntry* error_feedback(const std::string& name) {
  if (name == "none") return nullptr;
  for (const ErrorFeedbackEntry& entry : error_feedbacks()) {
    if (entry.name == name) return &entry;
  }
  std::string known;
  for (const std::string& other : error_feedback_names()) {
    known += (known.empty() ? "" : " | ") + other;
  }
  throw ConfigError("codec.error_feedback is \"" + name + "\", must be " + known);
}

std::vector<std::string> error_feedback_names() {
  std::vector<std::string> names = {"none"};
  for (const ErrorFeedbackEntry& entry : error_feedbacks()) names.push_back(entry.name);
  return names;
}

}  // namespace fedctl::codec
