#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "data/safetensors.hpp"

namespace fedctl::data {

void write_safetensors(const std::string& path, const TensorMap& tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const auto& [name, tensor] : tensors) {
    static constexpr const char* kNames[] = {"F32", "F64", "I32", "I64", "U8"};
    if (tensor.dtype == DType::coded || name == "__metadata__") {
      throw DataError(path + ": tensor \"" + name + "\" has no place in a safetensors file",
                      "tensors are of numbers and have names of their own");
    }
    FEDCTL_ASSERT(tensor.bytes.size() == element_count(tensor.shape) * element_bytes(tensor.dtype));
    header[name] = {{"dtype", kNames[static_cast<std::size_t>(tensor.dtype)]},
                    {"shape", tensor.shape},
                    {"data_offsets", {at, at + tensor.bytes.size()}}};
    at += tensor.bytes.size();
  }
  // Metadata may quote a file name that is not UTF-8; a strict dump would throw a foreign
  // exception.
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  while (text.size() % 8 != 0) text += ' ';
  const std::string temporary = path + ".tmp";
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool good = file >= 0;
  const auto put = [&](const void* data, std::size_t size) {
    const auto* bytes = static_cast<const char*>(data);
    while (good && size > 0) {
      const ssize_t count = ::write(file, bytes, size);
      if (count < 0 && errno == EINTR) continue;
      good = count >= 0;
      if (good) {
        bytes += count;
        size -= static_cast<std::size_t>(count);
      }
    }
  };
  const std::uint64_t length = text.size();
  put(&length, sizeof length);
  put(text.data(), text.size());
  for (const auto& [name, tensor] : tensors) put(tensor.bytes.data(), tensor.bytes.size());
  good = good && ::fsync(file) == 0;
  int fault = errno;
  if (file >= 0) ::close(file);
  if (good && ::rename(temporary.c_str(), path.c_str()) != 0) {
    fault = errno;
    good = false;
  }
  if (!good) {
    if (file >= 0) ::unlink(temporary.c_str());
    throw DataError(path + ": cannot be written: " + std::strerror(fault),
                    "check permissions and free space");
  }
}

}  // namespace fedctl::data
