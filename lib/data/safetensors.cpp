#include "data/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "base/limits.hpp"

namespace fedctl::data {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
constexpr int kHeaderDepthMax = 8;

struct Entry {
  std::string dtype;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // in the data part
};

std::size_t dtype_bytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL") return 1;
  return 0;
}

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16, exponent = (half >> 10) & 0x1fU,
                      fraction = half & 0x3ffU;
  if (exponent == 0) {
    const float value = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t bits =
      sign | (exponent == 31 ? 0x7f800000U : (exponent + 112) << 23) | (fraction << 13);
  return std::bit_cast<float>(bits);
}

template <class From>
From element(const std::byte* data, std::size_t index) {
  From value;
  std::memcpy(&value, data + index * sizeof(From), sizeof(From));
  return value;
}

}  // namespace

struct Safetensors::Impl {
  ~Impl() {
    if (map != MAP_FAILED) ::munmap(map, size);
  }
  [[noreturn]] void fail(const std::string& what, const std::string& hint = "") const {
    throw DataError(path + ": " + what, hint);
  }
  const std::byte* data() const { return static_cast<const std::byte*>(map) + data_at; }
  const Entry& entry(const std::string& name) const {
    const auto found = entries.find(name);
    if (found == entries.end()) fail("no tensor \"" + name + '"');
    return found->second;
  }
  void map_file();
  void read_header();
  void read_entry(const std::string& name, const Json& json);
  void check_coverage() const;

  std::string path;
  void* map = MAP_FAILED;
  std::size_t size = 0, data_at = 0;
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;
};

void Safetensors::Impl::map_file() {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  if (file < 0 || ::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (file >= 0) ::close(file);
    fail(errno == ENOENT ? "no such file"
                         : std::string("cannot be opened: ") + std::strerror(errno));
  }
  size = static_cast<std::size_t>(status.st_size);
  if (size >= kLengthBytes) map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  ::close(file);
  if (size < kLengthBytes) fail("not a safetensors file: shorter than 8 bytes");
  if (map == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(errno));
}

void Safetensors::Impl::read_header() {
  const auto length = element<std::uint64_t>(static_cast<const std::byte*>(map), 0);
  if (length > limits::kSafetensorsHeaderBytesMax || length > size - kLengthBytes) {
    fail("header claims " + std::to_string(length) + " bytes, the file has " +
             std::to_string(size - kLengthBytes) + " after its length and at most " +
             std::to_string(limits::kSafetensorsHeaderBytesMax) + " are read",
         "is it a safetensors file, complete?");
  }
  data_at = kLengthBytes + static_cast<std::size_t>(length);
  const char* text = static_cast<const char*>(map) + kLengthBytes;
  // Names already seen at the top level: nlohmann keeps only the last of two.
  std::map<std::string, int> seen;
  std::string twin;
  bool too_deep = false;
  const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kHeaderDepthMax) too_deep = true;
    if (event == Json::parse_event_t::key && depth == 1 && ++seen[parsed.get<std::string>()] > 1) {
      twin = parsed.get<std::string>();
    }
    return !too_deep;
  };
  const Json header = Json::parse(text, text + length, watch, false);
  if (too_deep) fail("header is nested too deeply");
  if (!header.is_object()) fail("header is not a JSON object");
  if (!twin.empty()) fail("tensor \"" + twin + "\" appears twice");
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) fail("__metadata__ is not an object");
      for (const auto& [key, item] : value.items()) {
        if (!item.is_string()) fail("__metadata__ \"" + key + "\" is not a text");
        metadata[key] = item;
      }
    } else {
      read_entry(name, value);
    }
  }
  check_coverage();
}

void Safetensors::Impl::read_entry(const std::string& name, const Json& json) {
  const std::string place = "tensor \"" + name + "\": ";
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json["shape"].is_array() || !json.contains("data_offsets") ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    fail(place + "expected dtype, shape and data_offsets");
  }
  Entry entry;
  entry.dtype = json["dtype"];
  const std::size_t each = dtype_bytes(entry.dtype);
  if (each == 0) fail(place + "unknown dtype " + entry.dtype);
  if (json["shape"].size() > limits::kRankMax)
    fail(place + "more than " + std::to_string(limits::kRankMax) + " axes");
  for (const Json& dimension : json["shape"]) {
    if (!dimension.is_number_unsigned()) fail(place + "a dimension is not a natural number");
    entry.shape.push_back(static_cast<std::int64_t>(
        std::min(dimension.get<std::uint64_t>(), limits::kElementsMax + 1)));
  }
  for (const Json& offset : json["data_offsets"]) {
    if (!offset.is_number_unsigned()) fail(place + "an offset is not a natural number");
  }
  entry.begin = json["data_offsets"][0];
  entry.end = json["data_offsets"][1];
  if (entry.begin > entry.end || entry.end > size - data_at) {
    fail(place + "offsets [" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) +
             ") lie outside the data of " + std::to_string(size - data_at) + " bytes",
         "the file may be cut short");
  }
  std::size_t count = 0;
  try {
    count = element_count(entry.shape);
  } catch (const WireError& error) {
    fail(place + error.what());
  }
  if (count * each != entry.end - entry.begin) {
    fail(place + to_string(entry.shape) + " of " + entry.dtype + " needs " +
         std::to_string(count * each) + " bytes, its offsets span " +
         std::to_string(entry.end - entry.begin));
  }
  entries.emplace(name, std::move(entry));
}

// Tensors must fill the data part: no gaps to hide things in, no overlaps to alias.
void Safetensors::Impl::check_coverage() const {
  std::vector<std::pair<const Entry*, const std::string*>> order;
  for (const auto& [name, entry] : entries) order.emplace_back(&entry, &name);
  std::ranges::sort(order, {},
                    [](const auto& item) { return std::pair(item.first->begin, item.first->end); });
  std::uint64_t at = 0;
  for (const auto& [entry, name] : order) {
    if (entry->begin != at) {
      fail("tensor \"" + *name + "\" begins at " + std::to_string(entry->begin) + ", expected " +
           std::to_string(at) + ": tensors overlap or leave a gap");
    }
    at = entry->end;
  }
  if (at != size - data_at)
    fail(std::to_string(size - data_at - at) + " bytes follow the last tensor");
}

Safetensors::Safetensors(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Safetensors::Safetensors(Safetensors&&) noexcept = default;
Safetensors& Safetensors::operator=(Safetensors&&) noexcept = default;
Safetensors::~Safetensors() = default;

Safetensors Safetensors::open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->map_file();
  impl->read_header();
  return Safetensors(std::move(impl));
}

std::vector<std::string> Safetensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : impl_->entries) names.push_back(name);
  return names;
}
bool Safetensors::contains(const std::string& name) const { return impl_->entries.contains(name); }
const Shape& Safetensors::shape(const std::string& name) const { return impl_->entry(name).shape; }
const std::map<std::string, std::string>& Safetensors::metadata() const { return impl_->metadata; }

Tensor Safetensors::f32(const std::string& name) const {
  const Entry& entry = impl_->entry(name);
  const std::byte* data = impl_->data() + entry.begin;
  Tensor tensor = Tensor::zeros(DType::f32, entry.shape);
  const std::span<float> out = tensor.f32();
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (entry.dtype == "F32") {
      out[i] = element<float>(data, i);
    } else if (entry.dtype == "F16") {
      out[i] = half_to_float(element<std::uint16_t>(data, i));
    } else if (entry.dtype == "BF16") {
      out[i] =
          std::bit_cast<float>(static_cast<std::uint32_t>(element<std::uint16_t>(data, i)) << 16);
    } else if (entry.dtype == "F64") {
      out[i] = static_cast<float>(element<double>(data, i));
    } else {
      impl_->fail("tensor \"" + name + "\" is " + entry.dtype + ", expected floating point");
    }
    if (!std::isfinite(out[i])) {
      impl_->fail("tensor \"" + name + "\": value " + std::to_string(i) + " is not finite");
    }
  }
  return tensor;
}

Tensor Safetensors::i64(const std::string& name) const {
  const Entry& entry = impl_->entry(name);
  const std::byte* data = impl_->data() + entry.begin;
  Tensor tensor = Tensor::zeros(DType::i64, entry.shape);
  const std::span<std::int64_t> out = tensor.i64();
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (entry.dtype == "I64") {
      out[i] = element<std::int64_t>(data, i);
    } else if (entry.dtype == "I32") {
      out[i] = element<std::int32_t>(data, i);
    } else if (entry.dtype == "I16") {
      out[i] = element<std::int16_t>(data, i);
    } else if (entry.dtype == "I8") {
      out[i] = element<std::int8_t>(data, i);
    } else if (entry.dtype == "U8" || entry.dtype == "BOOL") {
      out[i] = element<std::uint8_t>(data, i);
    } else {
      impl_->fail("tensor \"" + name + "\" is " + entry.dtype + ", expected signed integers");
    }
  }
  return tensor;
}

}  // namespace fedctl::data
