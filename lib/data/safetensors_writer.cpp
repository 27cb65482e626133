#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "base/new_file.hpp"
#include "data/detail/narrow.hpp"
#include "data/detail/widen.hpp"
#include "data/safetensors.hpp"

namespace fedctl::data {
namespace {

// The values of a file, in order.
void put(NewFile& file, const void* data, std::size_t size) {
  file.put({static_cast<const std::byte*>(data), size});
}

Bytes narrowed(std::span<const float> values, Storage storage, const std::string& place) {
  Bytes bytes(values.size() * 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t half =
        storage == Storage::f16 ? float_to_half(values[i]) : float_to_brain(values[i]);
    const float back = storage == Storage::f16 ? half_to_float(half) : brain_to_float(half);
    if (!std::isfinite(back)) {
      throw DataError(place + std::to_string(values[i]) + " is beyond what " +
                          (storage == Storage::f16 ? "F16" : "BF16") + " holds",
                      "store as float32, or as bfloat16, which reaches as far");
    }
    std::memcpy(bytes.data() + 2 * i, &half, sizeof half);
  }
  return bytes;
}

}  // namespace

void write_safetensors(const std::string& path, const TensorMap& tensors,
                       const std::map<std::string, std::string>& metadata, Storage storage) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  const auto is_narrowed = [&](const Tensor& tensor) {
    return tensor.dtype == DType::f32 && storage != Storage::f32;
  };
  std::uint64_t at = 0;
  for (const auto& [name, tensor] : tensors) {
    static constexpr const char* kNames[] = {"F32", "F64", "I32", "I64", "U8"};
    if (tensor.dtype == DType::coded || name == "__metadata__") {
      throw DataError(path + ": tensor \"" + name + "\" has no place in a safetensors file",
                      "tensors are of numbers and have names of their own");
    }
    FEDCTL_ASSERT(tensor.bytes.size() == element_count(tensor.shape) * element_bytes(tensor.dtype));
    const std::size_t size = is_narrowed(tensor) ? tensor.bytes.size() / 2 : tensor.bytes.size();
    const char* dtype = !is_narrowed(tensor)      ? kNames[static_cast<std::size_t>(tensor.dtype)]
                        : storage == Storage::f16 ? "F16"
                                                  : "BF16";
    header[name] = {{"dtype", dtype}, {"shape", tensor.shape}, {"data_offsets", {at, at + size}}};
    at += size;
  }
  // Metadata may quote a file name that is not UTF-8; a strict dump would throw a foreign
  // exception.
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  while (text.size() % 8 != 0) text += ' ';
  NewFile out(path);
  const std::uint64_t length = text.size();
  put(out, &length, sizeof length);
  put(out, text.data(), text.size());
  for (const auto& [name, tensor] : tensors) {
    if (is_narrowed(tensor)) {
      const Bytes half = narrowed(tensor.f32(), storage, path + ": tensor \"" + name + "\": ");
      out.put(half);
    } else {
      out.put(tensor.bytes);
    }
  }
  out.commit();
}

}  // namespace fedctl::data
