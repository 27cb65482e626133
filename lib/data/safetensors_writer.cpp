#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "data/detail/narrow.hpp"
#include "data/detail/widen.hpp"
#include "data/safetensors.hpp"

namespace fedctl::data {
namespace {

// A file that is written beside the one it replaces.
class Output {
 public:
  explicit Output(const std::string& path)
      : path_(path),
        temporary_(path + ".tmp"),
        file_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (file_ < 0) fail();
  }
  ~Output() {
    if (file_ < 0) return;
    ::close(file_);
    ::unlink(temporary_.c_str());
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void put(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t count = ::write(file_, bytes, size);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail();
      bytes += count;
      size -= static_cast<std::size_t>(count);
    }
  }
  void commit() {
    if (::fsync(file_) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) fail();
    ::close(std::exchange(file_, -1));
  }

 private:
  [[noreturn]] void fail() const {
    throw DataError(path_ + ": cannot be written: " + std::strerror(errno),
                    "check permissions and free space");
  }

  const std::string& path_;
  std::string temporary_;
  int file_;
};

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
  Output out(path);
  const std::uint64_t length = text.size();
  out.put(&length, sizeof length);
  out.put(text.data(), text.size());
  for (const auto& [name, tensor] : tensors) {
    if (is_narrowed(tensor)) {
      const Bytes half = narrowed(tensor.f32(), storage, path + ": tensor \"" + name + "\": ");
      out.put(half.data(), half.size());
    } else {
      out.put(tensor.bytes.data(), tensor.bytes.size());
    }
  }
  out.commit();
}

}  // namespace fedctl::data
