// Any bytes as a safetensors file: only DataError may escape, and what opens can be read or is
// refused with it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "base/errors.hpp"
#include "data/safetensors.hpp"

using namespace fedctl;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int file = ::memfd_create("safetensors", 0);
  if (file < 0 || ::write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    const data::Safetensors tensors =
        data::Safetensors::open("/proc/self/fd/" + std::to_string(file));
    for (const std::string& name : tensors.names()) {
      try {
        (void)tensors.f32(name);
      } catch (const DataError&) {
      }
      try {
        (void)tensors.i64(name);
      } catch (const DataError&) {
      }
      if (tensors.shape(name).empty()) continue;
      const data::Safetensors::RowView rows = tensors.rows(name);
      std::vector<float> row(rows.row_elements);
      if (rows.count > 0) rows.widen_row(rows.count - 1, row);
    }
  } catch (const DataError&) {
  }
  ::close(file);
  return 0;
}
