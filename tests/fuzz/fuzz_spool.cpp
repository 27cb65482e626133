// Any bytes are a spool up to a torn end, or refused with RunDirectoryError; its records can be
// written again.
#include <cstdint>
#include <cstdlib>

#include "base/errors.hpp"
#include "run/spool.hpp"

using namespace fedctl;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const run::SpoolContent content =
        run::parse_spool(std::as_bytes(std::span(data, size)), "spool");
    if (content.whole > size) std::abort();
    // What was cut off does not change what is before it.
    const run::SpoolContent again =
        run::parse_spool(std::as_bytes(std::span(data, content.whole)), "spool");
    if (again.found.size() != content.found.size() || again.whole != content.whole) std::abort();
  } catch (const RunDirectoryError&) {
  }
  return 0;
}
