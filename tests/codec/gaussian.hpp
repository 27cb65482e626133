// A codec's normalised squared error on normally distributed values, as the method sheets state it.
#pragma once

#include <cmath>
#include <vector>

#include "codec/chains.hpp"

namespace fedctl::test {

struct GaussianRun {
  double nmse;
  double bits;  // a value
};

inline GaussianRun gaussian_run(const Chain& chain) {
  constexpr std::size_t kCount = 1 << 16;
  Rng rng(1);
  std::vector<float> values(kCount), out(kCount);
  for (float& value : values) value = static_cast<float>(rng.normal());
  const Bytes bytes = chain.make({kCount})->encode(values, rng);
  chain.make({kCount})->decode(bytes, out);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    error += std::pow(static_cast<double>(out[i]) - values[i], 2);
    norm += std::pow(static_cast<double>(values[i]), 2);
  }
  return {error / norm, 8.0 * static_cast<double>(bytes.size()) / kCount};
}

inline Bytes bytes_of(std::initializer_list<int> numbers) {
  Bytes bytes;
  for (const int number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

}  // namespace fedctl::test
