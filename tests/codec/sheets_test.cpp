// What the papers of the codecs say of them beyond their errors: on convex problems, and in size.
#include <catch2/catch.hpp>
#include <cmath>

#include "codec/quadratics.hpp"
#include "support/chain_text.hpp"

using namespace fedctl;

namespace {

double entropy(std::span<const double> shares) {
  double bits = 0;
  for (const double share : shares) bits -= share > 0 ? share * std::log2(share) : 0;
  return bits;
}

}  // namespace

TEST_CASE("biased codecs stall unequal clients without feedback and with a residual",
          "[codec][sheets]") {
  // FedZip; ComPEFT; the E3M0 of Streaming DiLoCo.
  for (const char* text : {"topk:ratio=0.2+kmeans:clusters=3", "topk:ratio=0.2+sign", "e3m0"}) {
    INFO(text);
    const auto chain = test::chain_of(text);
    const double plain = test::distance_to_dense(chain, "none");
    CHECK(plain > 3e-3);
    CHECK(test::distance_to_dense(chain, "ef21") < plain / 1000);
    CHECK(test::distance_to_dense(chain, "ef14") > 3e-3);
  }
}

TEST_CASE("FedZip's size is that of its positions and clusters", "[codec][sheets][kmeans]") {
  constexpr std::size_t kCount = 1 << 17;
  Rng rng(1);
  std::vector<float> values(kCount), out(kCount);
  for (float& value : values) value = static_cast<float>(rng.normal());
  const auto codec =
      test::Chain{"", test::chain_of("topk:ratio=0.2+kmeans:clusters=3+rans")}.make({kCount});
  const Bytes bytes = codec->encode(values, rng);
  codec->decode(bytes, out);
  std::map<float, double> clusters;  // shares of what is kept
  for (const float value : out) clusters[value] += value != 0 ? 5.0 / kCount : 0;
  std::vector<double> shares;
  for (const auto& [value, share] : clusters) shares.push_back(share);
  const std::vector<double> kept = {0.2, 0.8};
  const double bound = kCount * (entropy(kept) + 0.2 * entropy(shares));
  CHECK(8.0 * static_cast<double>(bytes.size()) > bound);
  CHECK(8.0 * static_cast<double>(bytes.size()) < 1.02 * bound);
}

TEST_CASE("a sketch needs the step that its variance allows", "[codec][sheets][countsketch]") {
  constexpr std::size_t kCount = 1024;
  // |x|^2 / 2, each step the sketch of the gradient x: the squared norm at the end.
  const auto after = [](const char* text, double step, int steps) {
    const auto codec = test::Chain{"", test::chain_of(text)}.make({kCount});
    Rng rng(2);
    std::vector<float> x(kCount, 1), out(kCount);
    for (int i = 0; i < steps; ++i) {
      codec->decode(codec->encode(x, rng), out);
      for (std::size_t k = 0; k < kCount; ++k) x[k] -= static_cast<float>(step * out[k]);
    }
    double squared = 0;
    for (const float value : x) squared += static_cast<double>(value) * value / kCount;
    return squared;
  };
  for (const char* text : {"countsketch:ratio=0.0625", "rotate+randk:ratio=0.0625"}) {
    INFO(text);
    CHECK(after(text, 1.0 / 17, 100) < 0.01);  // (1 - 1/17)^100 = 0.002
    CHECK(after(text, 1, 10) > 1e6);
  }
}

TEST_CASE("scales, tables and headers are at most 1 % from 1 MiB of values on",
          "[codec][sheets][property]") {
  constexpr std::size_t kCount = 1 << 18;
  Rng rng(3);
  std::vector<float> values(kCount);
  for (float& value : values) value = static_cast<float>(rng.normal());
  std::vector<codec::BlockSize> blocks(24, kCount / 24);  // the parameters of MiniLM's LoRA
  blocks.back().count += kCount % 24;
  // Bits a value without any of them: fixed widths, or entropies of normally distributed values.
  const std::vector<std::pair<const char*, double>> chains = {{"float16", 16},
                                                              {"bfloat16", 16},
                                                              {"sign", 1},
                                                              {"e3m0", 4},
                                                              {"natural", 9},
                                                              {"drive", 1},
                                                              {"eden:bits=2", 2},
                                                              {"eden:bits=4", 4},
                                                              {"quantize:bits=8", 8},
                                                              {"quantize:bits=4", 4},
                                                              {"kmeans:clusters=4", 2},
                                                              {"sparseloco", 2},
                                                              {"randk:ratio=0.1", 3.2},
                                                              {"countsketch:ratio=0.1", 3.2},
                                                              {"rotate+quantize:bits=4", 4},
                                                              {"qsgd:bucket=4096", 5}};
  for (const auto& [text, bits] : chains) {
    INFO(text);
    const auto codec = test::Chain{"", test::chain_of(text)}.make(blocks);
    const double payload = bits * kCount / 8;
    const auto size = static_cast<double>(codec->encode(values, rng).size());
    CHECK(size >= std::floor(payload));
    CHECK(size <= 1.01 * payload);
  }
}
