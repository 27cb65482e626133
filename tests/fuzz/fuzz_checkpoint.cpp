// Any bytes are refused with WireError, or are the encoding of what they decode to.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "base/errors.hpp"
#include "run/run_directory.hpp"

using namespace fedctl;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes = std::as_bytes(std::span(data, size));
  try {
    run::Parts parts;
    const wire::Message state = run::decode_parts(bytes, parts);
    run::Parts again;
    if (run::decode_parts(run::encode_parts(state, parts), again) != state || again != parts) {
      std::abort();
    }
  } catch (const WireError&) {
  }
  return 0;
}
