// Any bytes are a spool up to a torn end, or refused with RunDirectoryError; its records can be
// written again.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/errors.hpp"
#include "run/spool.hpp"

using namespace fedctl;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto read = [data](std::uint64_t at, std::span<std::byte> out) {
      std::memcpy(out.data(), data + at, out.size());
    };
    const auto whole = run::SpoolRecords(read, size, "spool").skip_all();
    if (whole > size) std::abort();
    // What was cut off does not change what is before it.
    run::SpoolRecords again(read, whole, "spool");
    if (again.skip_all() != whole || again.more()) std::abort();
  } catch (const RunDirectoryError&) {
  }
  return 0;
}
