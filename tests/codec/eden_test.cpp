#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "codec/chains.hpp"
#include "codec/detail/hadamard.hpp"

using namespace fedctl;

namespace {

using Options = std::map<std::string, double>;

std::unique_ptr<codec::Codec> make(const std::string& kind, const Options& options,
                                   std::size_t count) {
  return test::Chain{kind, {test::plugin(codec::codec_kinds(), kind, options)}}.make({count});
}

std::vector<float> normal_values(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

std::vector<float> log_normal_values(std::size_t count, std::uint64_t seed) {
  std::vector<float> values = normal_values(count, seed);
  Rng rng(seed + 1000);
  for (float& value : values) value = std::copysign(std::exp(2 * value), rng.uniform() - 0.5F);
  return values;
}

// One value of a hundred is a hundred times larger.
std::vector<float> heavy_values(std::size_t count, std::uint64_t seed) {
  std::vector<float> values = normal_values(count, seed);
  Rng rng(seed + 2000);
  for (float& value : values) value *= rng.below(100) == 0 ? 100.0F : 1.0F;
  return values;
}

double product(std::span<const float> one, std::span<const float> other) {
  double sum = 0;
  for (std::size_t i = 0; i < one.size(); ++i) sum += static_cast<double>(one[i]) * other[i];
  return sum;
}

double distance(std::span<const float> one, std::span<const float> other) {
  return product(one, one) - 2 * product(one, other) + product(other, other);
}

std::vector<float> sent(codec::Codec& codec, std::span<const float> values, Rng& rng) {
  std::vector<float> out(values.size());
  codec.decode(codec.encode(values, rng), out);
  return out;
}

// |mean of the decoded - x|^2 / |x|^2 for `senders` of one vector.
double mean_error(codec::Codec& codec, std::span<const float> values, int senders, Rng& rng) {
  std::vector<float> mean(values.size(), 0.0F);
  for (int sender = 0; sender < senders; ++sender) {
    const std::vector<float> out = sent(codec, values, rng);
    for (std::size_t i = 0; i < out.size(); ++i) mean[i] += out[i] / static_cast<float>(senders);
  }
  return distance(mean, values) / product(values, values);
}

constexpr double kDistortion[] = {0.3634, 0.11748, 0.03455, 0.009501};

// Hands the codes through and keeps them.
class Spy final : public codec::SymbolCoder {
 public:
  explicit Spy(std::vector<std::uint8_t>& seen) : seen_(seen) {}
  std::size_t max_encoded_bytes(std::size_t count, unsigned) const override { return count; }
  void encode(std::span<const std::uint8_t> symbols, unsigned, Bytes& out) const override {
    seen_.assign(symbols.begin(), symbols.end());
    ByteWriter(out).raw(std::as_bytes(symbols));
  }
  void decode(ByteView&, unsigned, std::span<std::uint8_t>) const override {}

 private:
  std::vector<std::uint8_t>& seen_;
};

}  // namespace

TEST_CASE("eden makes the error of its paper, whatever the law of the values", "[codec][eden]") {
  Rng rng(1);
  for (const std::size_t count : {std::size_t{4096}, std::size_t{65536}, std::size_t{70'001}}) {
    for (const auto& law : {normal_values, log_normal_values, heavy_values}) {
      const auto values = law(count, 7);
      const double norm = product(values, values);
      const auto error = [&](const Options& options) {
        const auto eden = make("eden", options, count);
        const int rounds = count == 4096 ? 160 : 10;  // a standard error of half a per cent
        double sum = 0;
        for (int round = 0; round < rounds; ++round) {
          sum += distance(sent(*eden, values, rng), values);
        }
        return sum / rounds / norm;
      };
      for (int bits = 1; bits <= 4; ++bits) {
        INFO(count << " values, " << bits << " bits");
        const double expected = kDistortion[bits - 1];
        CHECK(error({{"bits", bits}}) == Approx(1 / (1 - expected) - 1).epsilon(0.02));
        CHECK(error({{"bits", bits}, {"unbiased", 0}}) == Approx(expected).epsilon(0.02));
      }
    }
  }
}

TEST_CASE("the mean of n senders is n times closer", "[codec][eden]") {
  Rng rng(2);
  const auto values = log_normal_values(4096, 8);
  const auto drive = make("drive", {}, values.size());
  for (const int senders : {1, 4, 16, 64}) {
    // A slope of -1 +- 0.05 over 64.
    CHECK(mean_error(*drive, values, senders, rng) * senders == Approx(0.5708).epsilon(0.08));
  }
}

TEST_CASE("two rounds take away the bias of vectors of few values", "[codec][eden]") {
  Rng rng(3);
  std::vector<float> values(4096, 0.0F);
  values[0] = 1;
  values[1] = 0.5F;
  // 0.5708 / 300 is left of the noise.
  CHECK(mean_error(*make("drive", {{"rounds", 1}}, 4096), values, 300, rng) > 0.15);
  CHECK(mean_error(*make("drive", {}, 4096), values, 300, rng) == Approx(0.0019).margin(0.0004));
  CHECK(mean_error(*make("eden", {}, 4096), values, 300, rng) == Approx(0.00044).margin(0.0001));
}

TEST_CASE("what eden decodes has the product |x|^2 with x", "[codec][eden]") {
  Rng rng(4);
  for (const std::size_t count : {256U, 300U, 5000U, 8192U, 20'000U}) {
    for (const Options& options :
         std::vector<Options>{{{"bits", 1}}, {{"bits", 3}}, {{"bits", 1}, {"keep", 0.3}}}) {
      const auto values = heavy_values(count, 9);
      const auto out = sent(*make("eden", options, count), values, rng);
      CHECK(product(out, values) == Approx(product(values, values)).epsilon(1e-5));
    }
  }
}

TEST_CASE("eden below one bit pays in proportion", "[codec][eden]") {
  Rng rng(5);
  const auto values = log_normal_values(65536, 10);
  const double norm = product(values, values);
  for (const double keep : {0.25, 0.5}) {
    const auto eden = make("eden", {{"bits", 1}, {"keep", keep}}, values.size());
    const Bytes encoded = eden->encode(values, rng);
    CHECK(encoded.size() == 8 + 4 * 8 + static_cast<std::size_t>(65536 * keep / 8));
    std::vector<float> out(values.size());
    eden->decode(encoded, out);
    CHECK(distance(out, values) / norm == Approx(1.5708 / keep - 1).epsilon(0.03));
  }
  const auto few = normal_values(1024, 11);
  const auto eden = make("eden", {{"bits", 1}, {"keep", 0.25}}, few.size());
  CHECK(mean_error(*eden, few, 400, rng) == Approx(5.283 / 400).epsilon(0.15));
}

TEST_CASE("eden takes 8 + 4 * blocks + ceil(count * bits / 8) bytes", "[codec][eden]") {
  Rng rng(6);
  const std::vector<std::pair<std::size_t, std::size_t>> blocks = {
      {256, 1},  {257, 2},  {511, 2},    {512, 1},    {4096, 1},
      {8192, 1}, {8193, 2}, {16'384, 2}, {12'544, 3}, {65'536, 8}};
  for (const auto& [count, block_count] : blocks) {
    INFO(count);
    const auto values = normal_values(count, 12);
    for (std::size_t bits = 1; bits <= 4; ++bits) {
      const auto eden = make("eden", {{"bits", static_cast<double>(bits)}}, count);
      CHECK(eden->encode(values, rng).size() == 8 + 4 * block_count + (count * bits + 7) / 8);
    }
    CHECK(make("drive", {}, count)->encode(values, rng).size() ==
          8 + 4 * block_count + (count + 7) / 8);
    CHECK(make("rotate", {}, count)->encode(values, rng).size() == 8 + 4 * count);
  }
  for (const std::size_t count : {0U, 1U, 255U}) {  // as they are
    const auto values = normal_values(count, 13);
    for (const char* kind : {"eden", "drive", "rotate"}) {
      const auto codec = make(kind, {}, count);
      CHECK(codec->encode(values, rng).size() == 4 * count);
      CHECK(sent(*codec, values, rng) == values);
    }
  }
}

TEST_CASE("the codes of eden have the entropy of its paper", "[codec][eden]") {
  const double expected[] = {1, 1.911, 2.825, 3.765};
  Rng rng(7);
  for (int bits = 1; bits <= 4; ++bits) {
    std::vector<std::uint8_t> codes;
    const auto plugin = test::plugin(codec::codec_kinds(), "eden", {{"bits", bits}});
    const std::vector<codec::BlockSize> block = {65536};
    const auto eden =
        test::entry_of(plugin).make_coded(*plugin.options, block, std::make_unique<Spy>(codes));
    eden->encode(heavy_values(65536, 14), rng);
    std::map<int, double> counts;
    for (const std::uint8_t code : codes) counts[code] += 1;
    double entropy = 0;
    for (const auto& [code, times] : counts) entropy -= times / 65536 * std::log2(times / 65536);
    CHECK(counts.size() == std::size_t{1} << bits);
    CHECK(entropy == Approx(expected[bits - 1]).margin(0.01));
  }
}

TEST_CASE("eden sends zeros, tiny and huge values", "[codec][eden]") {
  Rng rng(8);
  for (const float scale :
       {0.0F, -0.0F, std::numeric_limits<float>::denorm_min(), 1e-38F, 0x1p95F}) {
    INFO(scale);
    std::vector<float> values = normal_values(9000, 15);
    for (float& value : values) value = std::clamp(value, -2.0F, 2.0F) * scale;
    for (const char* kind : {"eden", "drive", "rotate"}) {
      const auto out = sent(*make(kind, {}, values.size()), values, rng);
      // A denormal scale has few digits.
      if (scale >= 1e-38F) CHECK(distance(out, values) < 0.6 * product(values, values));
      if (scale == 0) CHECK(product(out, out) == 0);
    }
  }
  const std::vector<float> huge(256, 0x1.1p96F);
  for (const char* kind : {"eden", "drive", "rotate"}) {
    CHECK_THROWS_AS(make(kind, {}, 256)->encode(huge, rng), WireError);
  }
}

TEST_CASE("eden and rotate refuse what they cannot have written", "[codec][eden]") {
  Rng rng(9);
  std::vector<float> out(256);
  const auto eden = make("eden", {{"bits", 1}}, 256);
  const auto with_scale = [&](float scale, std::byte codes) {
    Bytes bytes(8 + 4 + 32, codes);
    std::memcpy(bytes.data() + 8, &scale, sizeof(float));
    return bytes;
  };
  eden->decode(with_scale(0x1p110F, std::byte{0x5a}), out);
  CHECK(std::isfinite(product(out, out)));
  eden->decode(with_scale(0, std::byte{0xff}), out);  // code 1 is what 0 gets
  CHECK(product(out, out) == 0);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float scale : {-1.0F, -0.0F, 0x1.1p110F, inf, inf - inf}) {
    CHECK_THROWS_AS(eden->decode(with_scale(scale, std::byte{0xff}), out), WireError);
  }
  CHECK_THROWS_AS(eden->decode(with_scale(0, std::byte{0xfe}), out), WireError);
  const auto rotate = make("rotate", {}, 256);
  Bytes bytes = rotate->encode(normal_values(256, 16), rng);
  const float too_large = 0x1p120F;
  std::memcpy(bytes.data() + 8, &too_large, sizeof(float));
  CHECK_THROWS_AS(rotate->decode(bytes, out), WireError);
}

TEST_CASE("rotated values need fewer levels", "[codec][rotate]") {
  Rng rng(10);
  const auto values = log_normal_values(65536, 17);
  const auto quantize = test::plugin(codec::codec_kinds(), "quantize", {{"bits", 4}});
  const auto rotate = test::plugin(codec::codec_kinds(), "rotate");
  const auto plain = test::Chain{"quantize", {quantize}}.make({65536});
  const auto turned = test::Chain{"rotate+quantize", {rotate, quantize}}.make({65536});
  const Bytes encoded = turned->encode(values, rng);
  CHECK(encoded.size() == 8 + 4 * 8 + 65536 / 2);  // a scale for each block of 2^13
  std::vector<float> out(values.size());
  turned->decode(encoded, out);
  CHECK(distance(out, values) < 0.1 * distance(sent(*plain, values, rng), values));
}
