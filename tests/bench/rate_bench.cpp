// Bits a value against the lost share of the squared norm, of every codec on real updates: the
// files that `fedctl simulate --save-updates` wrote, each a vector whose tensors are its blocks.
// Prints CSV; bits are those of all messages over all values, the lost share likewise.
//   rate_bench FILE.safetensors...
#include <cmath>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "data/safetensors.hpp"
#include "support/chain_text.hpp"

using namespace fedctl;

namespace {

struct Update {
  std::vector<float> values;
  std::vector<codec::BlockSize> blocks;
};

Update read(const std::string& path) {
  const auto file = data::Safetensors::open(path);
  Update update;
  for (const std::string& name : file.names()) {
    const Tensor tensor = file.f32(name);
    const auto values = tensor.f32();
    update.blocks.push_back(values.size());
    update.values.insert(update.values.end(), values.begin(), values.end());
  }
  return update;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

// The knob of each codec over its range.
std::vector<std::string> chains() {
  std::vector<std::string> all = {"float16", "bfloat16",   "e3m0",         "e3m0+rans",
                                  "sign",    "natural",    "natural+zstd", "qsgd+rans",
                                  "drive",   "rotate+sign"};
  for (const double bits : {0.05, 0.1, 0.15, 0.2, 0.25, 0.34, 0.5, 0.6, 0.75, 1., 1.25,
                            1.5,  2.,  2.5,  3.,  3.5,  4.,   5.,  6.,  7.,   8.}) {
    all.push_back("auto:bits_per_parameter=" + number(bits));
  }
  for (const double ratio : {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5}) {
    const std::string topk = "topk:ratio=" + number(ratio);
    for (const char* values : {"", "+sign", "+kmeans:clusters=4:symmetric=1", "+kmeans:clusters=4",
                               "+kmeans:clusters=16", "+quantize:bits=4+rans", "+sparseloco"}) {
      all.push_back(topk + values);
    }
    all.push_back(topk + "+kmeans:clusters=3+rans");  // FedZip
    all.push_back(topk + ":chunk=4096+sign");
    all.push_back("randk:ratio=" + number(ratio) + ":unbiased=0");
    all.push_back("rotate+randk:ratio=" + number(ratio) + ":unbiased=0+sign");
    all.push_back("countsketch:ratio=" + number(ratio));
    all.push_back("threshold:relative=" + number(ratio) + "+sign");
  }
  for (const int bits : {1, 2, 3, 4}) {
    for (const char* rest : {"", "+rans"}) {
      const std::string eden = "eden:bits=" + number(bits);
      all.push_back(eden + rest);
      all.push_back(eden + ":unbiased=0" + rest);
    }
  }
  for (const double keep : {0.1, 0.3, 0.6}) {
    all.push_back("eden:bits=1:unbiased=0:keep=" + number(keep));
  }
  for (const int bits : {2, 3, 4, 6, 8}) {
    for (const char* rest : {"", "+rans", "+golomb", "+huffman"}) {
      all.push_back("quantize:bits=" + number(bits) + rest);
    }
    all.push_back("rotate+quantize:bits=" + number(bits) + "+rans");
  }
  for (const int levels : {1, 3, 7, 63}) {
    all.push_back("qsgd:levels=" + number(levels) + "+rans");
  }
  for (const int clusters : {2, 3, 4, 8, 16, 64}) {
    all.push_back("kmeans:clusters=" + number(clusters) + "+rans");
  }
  return all;
}

void measure(const std::string& text, const std::vector<Update>& updates) {
  const auto plugins = test::chain_of(text);
  double bytes = 0, count = 0, error = 0, norm = 0;
  for (std::size_t k = 0; k < updates.size(); ++k) {
    const Update& update = updates[k];
    const auto codec = codec::make_chain(plugins, "none", update.blocks);
    Rng rng(k);
    std::vector<float> out(update.values.size());
    const Bytes encoded = codec->encode(update.values, rng);
    codec->decode(encoded, out);
    bytes += static_cast<double>(encoded.size());
    count += static_cast<double>(out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      error += std::pow(static_cast<double>(out[i]) - update.values[i], 2);
      norm += std::pow(static_cast<double>(update.values[i]), 2);
    }
  }
  std::printf("%s,%.5f,%.5g\n", text.c_str(), 8 * bytes / count, error / norm);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::vector<Update> updates;
    for (int i = 1; i < argc; ++i) updates.push_back(read(argv[i]));
    if (updates.empty()) throw ConfigError("no files", "rate_bench updates/*.safetensors");
    std::printf("chain,bits,lost\n");
    for (const std::string& chain : chains()) measure(chain, updates);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rate_bench: %s\n", error.what());
    return 2;
  }
}
