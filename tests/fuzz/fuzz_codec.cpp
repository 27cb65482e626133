// Any bytes, decoded by any chain for any count, are refused with WireError or give finite values.
// Input: two bytes pick the chain, two the count of values (little-endian), the rest is the
// encoding.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

// All chains, or with FEDCTL_FUZZ_CODEC=kind in the environment those with that codec or error
// feedback.
std::vector<test::Chain> chains_of_interest() {
  std::vector<test::Chain> chains = test::all_chains();
  if (const char* kind = std::getenv("FEDCTL_FUZZ_CODEC")) {
    std::erase_if(chains, [&](const test::Chain& chain) {
      return chain.error_feedback != kind &&
             std::ranges::none_of(chain.stages,
                                  [&](const config::Plugin& stage) { return stage.kind == kind; });
    });
  }
  if (chains.empty()) std::abort();
  return chains;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<test::Chain> chains = chains_of_interest();
  if (size < 4) return 0;
  const test::Chain& chain = chains[(data[0] | (std::size_t{data[1]} << 8)) % chains.size()];
  const std::size_t count = data[2] | (std::size_t{data[3]} << 8);
  const std::vector<codec::BlockSize> blocks = {{count / 3, 16}, count - count / 3};
  std::vector<float> out(count);
  try {
    chain.make(blocks)->decode(std::as_bytes(std::span(data + 4, size - 4)), out);
  } catch (const WireError&) {
    return 0;
  }
  for (const float value : out) {
    if (!std::isfinite(value)) std::abort();
  }
  return 0;
}
