// How the stages of a chain are put together:
// [transform,] [sparsifier,] [quantizer,] [coder,] [squeezer], in error feedback.

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/error_feedback.hpp"

namespace fedctl::codec {
namespace {

ConfigError config_error(const config::Plugin& plugin, const std::string& what,
                         const std::string& hint) {
  return ConfigError(plugin.place.empty() ? what : plugin.place + ": " + what, hint);
}

const CodecEntry& entry_of(const config::Plugin& plugin, const std::string& key) {
  for (const CodecEntry& entry : codecs()) {
    if (entry.kind.name == plugin.kind) return entry;
  }
  throw config_error(plugin, key + ".kind is \"" + plugin.kind + "\", which is no codec",
                     "`fedctl list` shows the codecs");
}

const char* stage_name(Stage stage) {
  switch (stage) {
    case Stage::transform:
      return "a transform";
    case Stage::sparsifier:
      return "a sparsifier";
    case Stage::quantizer:
      return "a quantizer";
    case Stage::coder:
      return "an entropy coder";
    case Stage::squeezer:
      return "a byte compressor";
  }
  return "";
}

struct Link {
  config::Plugin plugin;
  const CodecEntry* entry;
  std::string key;  // codec.up[1]
};

std::vector<Link> links_of(const std::vector<config::Plugin>& chain, const std::string& key) {
  std::vector<Link> links;
  for (std::size_t i = 0; i < chain.size(); ++i) {
    const std::string link_key = key + "[" + std::to_string(i) + "]";
    links.push_back({chain[i], &entry_of(chain[i], link_key), link_key});
  }
  return links;
}

void check_order(const Link& first, const Link& second) {
  const auto refuse = [&](const std::string& why, const std::string& hint) {
    throw config_error(second.plugin, first.key + " and " + second.key + ": " + why, hint);
  };
  const std::string names = second.plugin.kind + " is " + stage_name(second.entry->stage) +
                            ", it cannot follow " + first.plugin.kind + ", " +
                            stage_name(first.entry->stage);
  if (second.entry->stage <= first.entry->stage) {
    refuse(names, "the order is transform, sparsifier, quantizer, entropy coder, byte compressor");
  }
  if (second.entry->stage == Stage::coder && !first.entry->make_coded) {
    refuse(names + (first.entry->stage == Stage::quantizer ? " that writes bytes of its own" : ""),
           "an entropy coder writes the numbers of a quantizer, as in [{kind: quantize}, {kind: " +
               second.plugin.kind + "}]");
  }
}

void check_alone(const Link& first) {
  if (first.entry->stage == Stage::coder || first.entry->stage == Stage::squeezer) {
    throw config_error(
        first.plugin,
        first.key + ": " + first.plugin.kind + " is " + stage_name(first.entry->stage) +
            ", it has nothing to write",
        "put a quantizer before it, as in [{kind: quantize}, {kind: " + first.plugin.kind + "}]");
  }
}

// The links from number `first` on. A squeezer is never among them. The codecs of a chain share
// `links`, since some make the next codec anew with every message.
std::unique_ptr<Codec> build(const std::shared_ptr<const std::vector<Link>>& links,
                             std::size_t first, Blocks blocks) {
  const Link& link = (*links)[first];
  const config::Options& options = *link.plugin.options;
  if (first + 1 == links->size()) return link.entry->make(options, blocks);
  if (link.entry->make_before) {
    return link.entry->make_before(options, blocks, [links, first](Blocks handed_on) {
      return build(links, first + 1, handed_on);
    });
  }
  const Link& coder = (*links)[first + 1];
  return link.entry->make_coded(options, blocks, coder.entry->make_coder(*coder.plugin.options));
}

}  // namespace

std::unique_ptr<Codec> make_chain(const std::vector<config::Plugin>& chain,
                                  const std::string& error_feedback, Blocks blocks,
                                  const std::string& key) {
  if (chain.empty()) return nullptr;
  std::vector<Link> links = links_of(chain, key);
  check_alone(links.front());
  for (std::size_t i = 0; i + 1 < links.size(); ++i) check_order(links[i], links[i + 1]);
  const Link last = links.back();
  if (last.entry->stage == Stage::squeezer) links.pop_back();
  std::unique_ptr<Codec> codec =
      build(std::make_shared<const std::vector<Link>>(std::move(links)), 0, blocks);
  if (last.entry->stage == Stage::squeezer) {
    codec = last.entry->make_around(*last.plugin.options, std::move(codec));
  }
  const ErrorFeedbackEntry* feedback = codec::error_feedback(error_feedback);
  return feedback == nullptr ? std::move(codec)
                             : feedback->wrap(std::move(codec), detail::value_count(blocks));
}

}  // namespace fedctl::codec
