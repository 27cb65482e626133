// The entropy coders of docs/codecs.md: bits a number and speed of them and of zstd on
// ternary vectors of 2^20 numbers, a share k of them not 0 with signs that are equally likely,
// beside the figures of the literature. A line ends in ok or off, and any off is status 1. A size
// below the entropy is off, too.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>

#include "codec/codec.hpp"
#include "support/plugin.hpp"

using namespace fedctl;

namespace {

constexpr std::size_t kCount = 1 << 20;
constexpr std::array kDensities = {0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5};
using Symbols = std::vector<std::uint8_t>;

struct Expected {
  std::string name;
  std::array<double, kDensities.size()> bits;
  double tolerance;
  double header_bytes = 0;  // beside the share; the figures leave headers out
};

const Expected kGolomb = {
    "golomb", {0.0124, 0.0911, 0.3381, 0.5727, 0.9280, 1.1884, 1.5}, 0.005, 4};
const Expected kRice = {
    "golomb, Rice", {0.0125, 0.0911, 0.3393, 0.5757, 0.9388, 1.1884, 1.5}, 0.005, 4};
const Expected kRans = {
    "rans", {0.0125, 0.0909, 0.3365, 0.5691, 0.9220, 1.1814, 1.5001}, 0.002, 22};
const Expected kHuffman = {"huffman", {1.001, 1.01, 1.05, 1.1, 1.2, 1.3, 1.5}, 0.002};
const Expected kBase3 = {"base3", {1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6}, 0.0001};
const Expected kBase3Zstd3 = {
    "base3 + zstd 3", {0.0233, 0.163, 0.487, 0.740, 1.046, 1.225, 1.501}, 0.05};
const Expected kBase3Zstd19 = {
    "base3 + zstd 19", {0.0217, 0.127, 0.401, 0.589, 0.946, 1.196, 1.502}, 0.05};
const Expected kInt8Zstd3 = {
    "int8 + zstd 3", {0.028, 0.190, 0.695, 1.124, 1.591, 1.808, 1.987}, 0.05};
const Expected kInt8Zstd19 = {
    "int8 + zstd 19", {0.032, 0.152, 0.469, 0.706, 1.083, 1.355, 1.508}, 0.05};

// 0 and the two signs, exactly round(k n) of them.
Symbols ternary(double density) {
  Symbols symbols(kCount);
  const auto others = static_cast<std::size_t>(std::llround(density * kCount));
  for (std::size_t i = 0; i < others; ++i) symbols[i] = static_cast<std::uint8_t>(1 + i % 2);
  Rng rng(1);
  rng.shuffle(std::span(symbols));
  return symbols;
}

double entropy(double k) { return -k * std::log2(k) - (1 - k) * std::log2(1 - k) + k; }

// The shortest of some runs, in seconds.
template <class Run>
double seconds(int repeats, Run run) {
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count());
  }
  return best;
}

const codec::CodecEntry& entry_of(const config::Plugin& plugin) {
  return *std::ranges::find_if(codec::codecs(), [&](const codec::CodecEntry& entry) {
    return entry.kind.name == plugin.kind;
  });
}

bool report(const Expected& expected, std::size_t which, std::size_t bytes, double encode,
            double decode) {
  const double bits = 8 * static_cast<double>(bytes) / kCount;
  const double tabled = expected.bits[which];
  const double margin = expected.tolerance * tabled + 8 * expected.header_bytes / kCount;
  const bool right =
      std::abs(bits - tabled) <= margin && bits >= entropy(kDensities[which]) * (1 - 1e-5);
  std::printf("| %-15s | %5.3f | %6.4f | %6.4f | %6.4f | %5.0f | %5.0f | %s |\n",
              expected.name.c_str(), kDensities[which], entropy(kDensities[which]), bits, tabled,
              kCount / encode / 1e6, kCount / decode / 1e6, right ? "ok" : "off");
  return right;
}

std::unique_ptr<codec::SymbolCoder> coder_of(const std::string& name, bool rice) {
  std::map<std::string, double> options;
  if (rice) options["power_of_two"] = 1;
  const config::Plugin plugin = test::plugin(codec::codec_kinds(), name, options);
  return entry_of(plugin).make_coder(*plugin.options);
}

bool measure_coder(const Expected& expected, std::size_t which, const Symbols& symbols) {
  const bool rice = &expected == &kRice;
  const auto coder = coder_of(rice ? "golomb" : expected.name, rice);
  Bytes encoded;
  encoded.reserve(coder->max_encoded_bytes(kCount, 3));
  Symbols decoded(kCount);
  const double encode = seconds(5, [&] {
    encoded.clear();
    coder->encode(symbols, 3, encoded);
  });
  const double decode = seconds(5, [&] {
    ByteView rest = encoded;
    coder->decode(rest, 3, decoded);
  });
  const bool same = decoded == symbols;
  return report(expected, which, encoded.size(), encode, decode) && same;
}

// A chain that has written these bytes already.
class Written final : public codec::Codec {
 public:
  explicit Written(Bytes bytes) : bytes_(std::move(bytes)) {}
  std::size_t max_encoded_bytes(std::size_t) const override { return bytes_.size(); }
  Bytes encode(std::span<const float>, Rng&) override { return bytes_; }
  void decode(ByteView encoded, std::span<float>) const override {
    if (!std::ranges::equal(encoded, bytes_)) throw WireError("other bytes than were written");
  }

 private:
  Bytes bytes_;
};

bool measure_zstd(const Expected& expected, std::size_t which, const Bytes& bytes, int level) {
  const config::Plugin plugin =
      test::plugin(codec::codec_kinds(), "zstd", {{"level", static_cast<double>(level)}});
  const auto codec =
      entry_of(plugin).make_around(*plugin.options, std::make_unique<Written>(bytes));
  Bytes encoded;
  Rng rng(1);
  const double encode = seconds(level > 3 ? 1 : 5, [&] { encoded = codec->encode({}, rng); });
  const double decode = seconds(5, [&] { codec->decode(encoded, {}); });
  return report(expected, which, encoded.size(), encode, decode);
}

bool measure(std::size_t which) {
  const Symbols symbols = ternary(kDensities[which]);
  bool right = true;
  for (const Expected* coder : {&kGolomb, &kRice, &kRans, &kHuffman, &kBase3}) {
    right = measure_coder(*coder, which, symbols) && right;
  }
  Bytes packed, int8;
  coder_of("base3", false)->encode(symbols, 3, packed);
  for (const std::uint8_t symbol : symbols) {
    int8.push_back(symbol == 2 ? std::byte{0xff} : static_cast<std::byte>(symbol));
  }
  right = measure_zstd(kBase3Zstd3, which, packed, 3) && right;
  right = measure_zstd(kBase3Zstd19, which, packed, 19) && right;
  right = measure_zstd(kInt8Zstd3, which, int8, 3) && right;
  right = measure_zstd(kInt8Zstd19, which, int8, 19) && right;
  return right;
}

}  // namespace

int main() {
  std::printf(
      "| coder | k | entropy | bits a number | tabled | encode, M/s | decode, M/s | |\n"
      "|---|---|---|---|---|---|---|---|\n");
  bool right = true;
  try {
    for (std::size_t which = 0; which < kDensities.size(); ++which) {
      right = measure(which) && right;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "coder_bench: %s\n", error.what());
    return 2;
  }
  return right ? 0 : 1;
}
