// The codec section: its keys, what its short forms stand for, and what goes together.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "codec/codec.hpp"
#include "codec/error_feedback.hpp"
#include "run/experiment.hpp"

namespace fedctl::run {
namespace {

using config::Fields;

// Chunked top-k with signs, coded as the difference to what the receiver has, both ways: 0.133 bit
// a value. With the outer step of DiLoCo it is SparseLoCo's code (Sarfi et al., arXiv 2508.15706)
// with the difference in place of the decayed residual.
constexpr const char* kSparseLora = "sparse_lora";
constexpr double kSparseChunk = 4096, kSparseRatio = 1.0 / 64;
// Chosen on glyphs, where the lr of DiLoCo (0.7, beta 0.9) diverges; docs/results.md.
constexpr double kOuterLr = 0.3, kOuterBeta = 0.5;

// An unbiased code up, which needs no memory and averages out, and the change since a client was
// asked last down: 0.3 and 2 bits a value, about 27 times fewer bytes both ways, at the least loss
// of accuracy that was found for it (docs/results.md).
constexpr const char* kDenseLora = "dense_lora";
constexpr double kDenseKeep = 0.3, kDenseBitsDown = 2;

constexpr double kBitsMin = 0.02;

// Replaces one plugin of an options struct.
class PluginSetter final : public Fields {
 public:
  PluginSetter(std::string_view key, std::string_view kind, std::map<std::string, double> numbers)
      : key_(key), kind_(kind), numbers_(std::move(numbers)) {}

  void plugin(std::string_view key, config::Plugin& value, const config::Kinds& kinds,
              std::string_view) override {
    if (key == key_) value = config::make_plugin(kinds, kind_, numbers_);
  }
  void integer(std::string_view, std::int64_t&, config::Whole, std::string_view) override {}
  void real(std::string_view, double&, config::Range, std::string_view) override {}
  void boolean(std::string_view, bool&, std::string_view) override {}
  void text(std::string_view, std::string&, config::Text, std::string_view) override {}
  void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void section(std::string_view, config::Options&, std::string_view) override {}
  void plugins(std::string_view, std::vector<config::Plugin>&, const config::Kinds&, std::size_t,
               std::string_view) override {}

 private:
  std::string_view key_, kind_;
  std::map<std::string, double> numbers_;
};

// What a profile gives to the keys that are not written.
void fill_in(CodecOptions& codec, const Places& places, const CodecOptions& profile) {
  if (!places.contains("codec.up")) codec.up = profile.up;
  if (!places.contains("codec.down")) codec.down = profile.down;
  if (!places.contains("codec.error_feedback")) codec.error_feedback = profile.error_feedback;
  if (!places.contains("codec.error_feedback_down")) {
    codec.error_feedback_down = profile.error_feedback_down;
  }
}

void use_sparse_lora(Experiment& experiment, const Places& places) {
  CodecOptions profile;
  profile.up = {config::make_plugin(codec::codec_kinds(), "topk",
                                    {{"chunk", kSparseChunk}, {"ratio", kSparseRatio}}),
                config::make_plugin(codec::codec_kinds(), "sign")};
  profile.down = profile.up;
  profile.error_feedback = profile.error_feedback_down = "ef21";
  fill_in(experiment.codec, places, profile);
  if (!places.contains("method.server_optimizer")) {
    PluginSetter outer("server_optimizer", "momentum",
                       {{"lr", kOuterLr}, {"beta", kOuterBeta}, {"nesterov", 1}});
    experiment.method.options->fields(outer);
  }
}

void use_dense_lora(Experiment& experiment, const Places& places) {
  CodecOptions profile;
  profile.up = {
      config::make_plugin(codec::codec_kinds(), "eden", {{"bits", 1}, {"keep", kDenseKeep}})};
  profile.down = {
      config::make_plugin(codec::codec_kinds(), "auto", {{"bits_per_parameter", kDenseBitsDown}})};
  profile.error_feedback_down = "ef21";
  fill_in(experiment.codec, places, profile);
}

void set_bits(config::Plugin& plugin, double bits) {
  const std::string place = plugin.place;
  plugin = config::make_plugin(codec::codec_kinds(), "auto", {{"bits_per_parameter", bits}});
  plugin.place = place;
}

// The codecs auto without bits of their own.
std::vector<config::Plugin*> open_autos(CodecOptions& codec, const Places& places) {
  std::vector<config::Plugin*> found;
  for (const auto& [key, chain] : {std::pair("codec.up", &codec.up), {"codec.down", &codec.down}}) {
    for (std::size_t i = 0; i < chain->size(); ++i) {
      const std::string own = ".bits_per_parameter";
      if ((*chain)[i].kind == "auto" && !places.contains(key + own) &&
          !places.contains(key + ('[' + std::to_string(i) + ']' + own))) {
        found.push_back(&(*chain)[i]);
      }
    }
  }
  return found;
}

void use_bits_per_parameter(CodecOptions& codec, const Places& places) {
  const std::string place = place_of(places, "codec.bits_per_parameter");
  if (codec.bits_per_parameter < kBitsMin) {
    throw ConfigError(place + "codec.bits_per_parameter is below 0.02, the least that auto can do");
  }
  const auto has_auto = [](const std::vector<config::Plugin>& chain) {
    return std::ranges::any_of(chain, [](const auto& stage) { return stage.kind == "auto"; });
  };
  if (!has_auto(codec.up) && !has_auto(codec.down)) {
    throw ConfigError(place +
                          "codec.bits_per_parameter is for the codec auto, but neither codec.up "
                          "nor codec.down has it",
                      "codec: {up: auto, bits_per_parameter: 0.3}");
  }
  for (config::Plugin* plugin : open_autos(codec, places)) {
    set_bits(*plugin, codec.bits_per_parameter);
  }
}

// Notes which codecs get their bits from the budget, once the size of an update is known.
void prepare_spread(Experiment& experiment, const Places& places) {
  const std::string place = place_of(places, "budget.spread");
  if (experiment.budget.total_bytes == 0) {
    throw ConfigError(place + "budget.spread is true, but budget.total_bytes is 0");
  }
  CodecOptions& codec = experiment.codec;
  const std::vector<config::Plugin*> open = open_autos(codec, places);
  codec.spread_up = codec.up.size() == 1 && std::ranges::count(open, codec.up.data()) == 1;
  codec.spread_down = codec.down.size() == 1 && std::ranges::count(open, codec.down.data()) == 1;
  if (!codec.spread_up && !codec.spread_down) {
    throw ConfigError(place +
                          "budget.spread is true, but neither codec.up nor codec.down is an auto "
                          "alone without bits of its own",
                      "codec: {up: auto, down: auto}");
  }
}

// Bits a value and lost share of the squared norm on normally distributed values.
struct Measured {
  double bits = 32, lost = 0;
};
constexpr std::size_t kMeasuredCount = 8192;
Measured measure(const std::vector<config::Plugin>& chain, std::size_t count = kMeasuredCount) {
  Rng rng(1);
  std::vector<float> values(count), decoded(count);
  for (float& value : values) value = static_cast<float>(rng.normal());
  const std::array<codec::BlockSize, 1> blocks = {count};
  const auto codec = codec::make_chain(chain, "none", blocks);
  const Bytes encoded = codec->encode(values, rng);
  codec->decode(encoded, decoded);
  Measured measured{8.0 * static_cast<double>(encoded.size()) / static_cast<double>(count), 0};
  double norm = 0;
  for (std::size_t i = 0; i < count; ++i) {
    measured.lost += std::pow(static_cast<double>(decoded[i]) - values[i], 2);
    norm += static_cast<double>(values[i]) * values[i];
  }
  measured.lost /= norm;
  return measured;
}

void warn(const std::string& key, const std::vector<config::Plugin>& chain,
          const std::string& feedback_key, const std::string& feedback,
          std::vector<std::string>& lines) {
  if (chain.empty()) return;
  const Measured measured = measure(chain);
  const codec::Promises promises = codec::promises_of(chain);
  std::array<char, 64> text{};
  if (feedback == "none" && !promises.unbiased && measured.bits < 4) {
    std::snprintf(text.data(), text.size(), "%.2f bits a value", measured.bits);
    lines.push_back(key + " makes about " + text.data() + " without " + feedback_key +
                    ": what is lost is never sent; ef14 sends it later, and drive, eden and qsgd "
                    "are right on average without it");
  }
  if (feedback != "none" && !promises.contractive && measured.lost >= 1) {
    std::snprintf(text.data(), text.size(), "%.1f", measured.lost);
    lines.push_back(feedback_key + " is " + feedback + ", but " + key + " adds an error of " +
                    text.data() + " times the squared values: the feedback grows without bound; " +
                    "leave it out, or set unbiased: false");
  }
}

// auto holds its bits, unless even its shortest message has more: of few values.
void warn_of_short(const std::string& key, const std::vector<config::Plugin>& chain,
                   std::size_t parameters, std::vector<std::string>& lines) {
  const bool rated =
      std::ranges::any_of(chain, [](const auto& stage) { return stage.kind == "auto"; });
  if (!rated || parameters == 0 || parameters >= kMeasuredCount) return;
  const double wanted = measure(chain).bits, made = measure(chain, parameters).bits;
  if (made <= 1.05 * wanted) return;
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(),
                "%.2f bits a value instead of %.2f: an update of %zu values is too short for them, "
                "a message of auto takes some 20 bytes",
                made, wanted, parameters);
  lines.push_back(key + " makes " + text.data());
}

}  // namespace

void CodecOptions::fields(Fields& fields) {
  fields.plugins("up", up, codec::codec_kinds(), 8, "codec chain from client to server");
  fields.plugins("down", down, codec::codec_kinds(), 8, "codec chain from server to client");
  fields.text("error_feedback", error_feedback, {.one_of = codec::error_feedback_names()},
              "what becomes of the uplink's coding error");
  fields.text("error_feedback_down", error_feedback_down, {.one_of = codec::error_feedback_names()},
              "what becomes of the downlink's coding error");
  fields.text("profile", profile, {.one_of = {"none", kDenseLora, kSparseLora}},
              "values for the keys of codec that are not written, and for the server's optimizer");
  fields.real("bits_per_parameter", bits_per_parameter, {.min = 0, .max = 12},
              "bits a value of every auto that has none of its own; 0: auto's default");
}

void complete_codec(Experiment& experiment, const Places& places) {
  if (experiment.codec.profile == kSparseLora) use_sparse_lora(experiment, places);
  if (experiment.codec.profile == kDenseLora) use_dense_lora(experiment, places);
  if (experiment.codec.bits_per_parameter > 0) use_bits_per_parameter(experiment.codec, places);
  if (experiment.budget.spread) prepare_spread(experiment, places);
}

void check_codec(const CodecOptions& codec, const Places& places) {
  const auto check_chain = [&](const std::string& key, const std::vector<config::Plugin>& chain,
                               const std::string& error_feedback) {
    const std::array<codec::BlockSize, 1> blocks = {64};
    try {
      codec::make_chain(chain, error_feedback, blocks, key);
    } catch (const ConfigError& error) {
      throw ConfigError(place_of(places, key) + error.what(), error.hint());
    }
  };
  check_chain("codec.up", codec.up, codec.error_feedback);
  check_chain("codec.down", codec.down, codec.error_feedback_down);
  if (!codec.down.empty() && codec.error_feedback_down == "none") {
    const config::Plugin& first = codec.down.front();
    for (const codec::CodecEntry& entry : codec::codecs()) {
      if (entry.kind.name == first.kind && entry.stage == codec::Stage::sparsifier) {
        throw ConfigError(
            place_of(places, "codec.down") + "codec.down[0].kind is " + first.kind +
                ", which drops most of the weights that clients start from",
            "use float16 or quantize, or set codec.error_feedback_down: ef21, which sends "
            "what has changed since the client was asked last");
      }
    }
  }
  const auto check_feedback = [&](const std::string& key, const std::string& feedback,
                                  const std::string& chain_key, bool empty) {
    if (feedback == "none" || !empty) return;
    throw ConfigError(
        place_of(places, key) + key + " is " + feedback + ", but " + chain_key + " is empty",
        "without a codec nothing is lost that could be fed back");
  };
  check_feedback("codec.error_feedback", codec.error_feedback, "codec.up", codec.up.empty());
  check_feedback("codec.error_feedback_down", codec.error_feedback_down, "codec.down",
                 codec.down.empty());
}

std::vector<std::string> warnings(const Experiment& experiment, std::size_t parameters) {
  const CodecOptions& codec = experiment.codec;
  std::vector<std::string> lines;
  warn("codec.up", codec.up, "codec.error_feedback", codec.error_feedback, lines);
  warn("codec.down", codec.down, "codec.error_feedback_down", codec.error_feedback_down, lines);
  warn_of_short("codec.up", codec.up, parameters, lines);
  warn_of_short("codec.down", codec.down, parameters, lines);
  return lines;
}

}  // namespace fedctl::run
