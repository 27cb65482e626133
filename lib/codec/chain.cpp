// How the stages of a chain are put together: [sparsifier,] value codec, in error feedback.

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

// A sparsifier hands on values; any other codec hands on bytes, which none of these codecs reads.
void check_pair(const config::Plugin& first, const config::Plugin& second, const std::string& key,
                std::size_t index) {
  const std::string first_key = key + "[" + std::to_string(index) + "]";
  const std::string second_key = key + "[" + std::to_string(index + 1) + "]";
  const std::string keys = first_key + " and " + second_key + ": ";
  const std::string hint = "a chain is one codec, or a sparsifier (topk) and then a value codec";
  if (!entry_of(first, first_key).make_before) {
    throw config_error(second, keys + "nothing can follow " + first.kind + ", not " + second.kind,
                       hint);
  }
  if (entry_of(second, second_key).make_before) {
    throw config_error(
        second, keys + second.kind + " cannot choose among what " + first.kind + " has chosen",
        hint);
  }
}

std::unique_ptr<Codec> with_error_feedback(const std::string& name, std::unique_ptr<Codec> codec,
                                           std::size_t count) {
  if (name == "none") return codec;
  for (const ErrorFeedbackEntry& entry : error_feedbacks()) {
    if (entry.name == name) return entry.wrap(std::move(codec), count);
  }
  std::string known;
  for (const std::string& other : error_feedback_names()) {
    known += (known.empty() ? "" : " | ") + other;
  }
  throw ConfigError("codec.error_feedback is \"" + name + "\", must be " + known);
}

}  // namespace

std::unique_ptr<Codec> make_chain(const std::vector<config::Plugin>& chain,
                                  const std::string& error_feedback, Blocks blocks,
                                  const std::string& key) {
  for (std::size_t i = 0; i + 1 < chain.size(); ++i) check_pair(chain[i], chain[i + 1], key, i);
  if (chain.empty()) return nullptr;
  const config::Plugin& first = chain.front();
  const config::Plugin& last = chain.back();
  const CodecEntry& last_entry = entry_of(last, key + "[" + std::to_string(chain.size() - 1) + "]");
  const MakeNext make_last = [&](Blocks kept) { return last_entry.make(*last.options, kept); };
  std::unique_ptr<Codec> codec =
      chain.size() == 1
          ? make_last(blocks)
          : entry_of(first, key + "[0]").make_before(*first.options, blocks, make_last);
  return with_error_feedback(error_feedback, std::move(codec), detail::value_count(blocks));
}

}  // namespace fedctl::codec
