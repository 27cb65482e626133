// Every chain of the tables in docs/codecs.md on 2^20 normally distributed values: bits a value,
// share of the squared norm that is lost, M values a second each way, also as a ratio to memcpy of
// the values in the same run. With a tabled figure (exact integrals of the normal distribution) the
// line ends in ok or off, and any off is status 1.
//   codec_bench [CHAIN...]      a chain: topk:ratio=0.05+sign
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "codec/codec.hpp"
#include "support/chain_text.hpp"

using namespace fedctl;

namespace {

constexpr std::size_t kCount = 1 << 20;
constexpr int kRepeats = 5;

struct Expected {
  const char* chain;
  double bits = 0, error = 0;  // 0: no figure
  double bits_tolerance = 0.01;
};

// Errors within 2 %; bits within the tolerance of an entropy or a length that is known.
constexpr Expected kTable[] = {
    {"float16", 16},
    {"bfloat16", 16},
    {"sign", 1, 0.3634},
    {"sign:rms=1", 1, 0.4042},
    {"topk:ratio=0.01+sign", 0.0908, 0.9164, 0.02},
    {"topk:ratio=0.05+sign", 0.3364, 0.7267, 0.02},
    {"topk:ratio=0.1+sign", 0.5690, 0.5745, 0.02},
    {"topk:ratio=0.2+sign", 0.9219, 0.3840, 0.025},
    {"topk:ratio=0.5+sign", 1.5, 0.1921, 0.01},
    {"topk:ratio=0.015625:chunk=4096+sign", 0.1328, 0.8822},
    {"topk:ratio=0.01", 0.40, 0.9155, 0.01},
    {"topk:ratio=0.05", 1.89, 0.7209, 0.01},
    {"topk:ratio=0.1", 3.67, 0.5607, 0.01},
    {"drive", 1, 0.5708},
    {"eden:bits=1:unbiased=0", 1, 0.3634},
    {"eden:bits=2:unbiased=0", 2, 0.11748},
    {"eden:bits=3:unbiased=0", 3, 0.03455},
    {"eden:bits=4:unbiased=0", 4, 0.009501},
    {"eden:bits=2+rans", 1.911, 0.13312},
    {"eden:bits=3+rans", 2.825, 0.03578},
    {"eden:bits=4+rans", 3.765, 0.009592},
    {"e3m0", 4, 0},
    {"e3m0+rans", 0, 0},
    {"quantize:bits=8", 8, 0},
    {"quantize:bits=8+rans", 0, 0},
    {"auto:bits_per_parameter=0.1", 0.1, 0},
    {"auto:bits_per_parameter=0.34", 0.34, 0.727},
    {"auto:bits_per_parameter=0.57", 0.57, 0.575},
    {"auto:bits_per_parameter=0.92", 0.92, 0.384},
    {"auto:bits_per_parameter=1", 1, 0.348},
    {"auto:bits_per_parameter=2", 2, 0.0889},
    {"auto:bits_per_parameter=3", 3, 0.0222},
    {"auto:bits_per_parameter=4", 4, 0.00556},
    {"auto:bits_per_parameter=8", 8, 0},
};

// The shortest of some runs, in seconds.
template <class Run>
double seconds(Run run) {
  double best = 1e9;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count());
  }
  return best;
}

bool measure(const Expected& expected, const std::vector<float>& values) {
  const std::vector<codec::BlockSize> blocks = {values.size()};
  const auto codec = codec::make_chain(test::chain_of(expected.chain), "none", blocks);
  Bytes encoded;
  std::vector<float> out(values.size());
  const double copy = seconds([&] { std::memcpy(out.data(), values.data(), 4 * out.size()); });
  const double encode = seconds([&] {
    Rng rng(2);
    encoded = codec->encode(values, rng);
  });
  const double decode = seconds([&] { codec->decode(encoded, out); });
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    error += std::pow(static_cast<double>(out[i]) - values[i], 2);
    norm += std::pow(static_cast<double>(values[i]), 2);
  }
  error /= norm;
  const auto count = static_cast<double>(out.size());
  const double bits = 8 * static_cast<double>(encoded.size()) / count;
  const bool bits_right =
      expected.bits == 0 || std::abs(bits / expected.bits - 1) <= expected.bits_tolerance;
  const bool error_right = expected.error == 0 || std::abs(error / expected.error - 1) <= 0.02;
  std::printf("| %-35s | %8.4f | %8.4f | %9.3g | %9.3g | %5.0f | %5.0f | %5.2f | %5.2f | %s |\n",
              expected.chain, bits, expected.bits, error, expected.error, count / encode / 1e6,
              count / decode / 1e6, copy / encode, copy / decode,
              bits_right && error_right ? "ok" : "off");
  return bits_right && error_right;
}

}  // namespace

int main(int argc, char** argv) {
  Rng rng(1);
  std::vector<float> values(kCount);
  for (float& value : values) value = static_cast<float>(rng.normal());
  std::printf(
      "| chain | bits a value | tabled | lost | tabled | encode, M/s | decode, M/s | "
      "encode / memcpy | decode / memcpy | |\n|---|---|---|---|---|---|---|---|---|---|\n");
  bool right = true;
  try {
    if (argc == 1) {
      for (const Expected& expected : kTable) right = measure(expected, values) && right;
    }
    for (int i = 1; i < argc; ++i) measure({argv[i]}, values);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "codec_bench: %s\n", error.what());
    return 2;
  }
  return right ? 0 : 1;
}
