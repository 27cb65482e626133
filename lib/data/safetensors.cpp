#include "data/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "base/limits.hpp"
#include "data/detail/widen.hpp"

namespace fedctl::data {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kChunkElements = std::size_t{1} << 20;
constexpr int kHeaderDepthMax = 8;
// A header of 100 MB of "[[],[],..." would else become gigabytes of JSON values.
constexpr std::size_t kHeaderValuesMax = std::size_t{1} << 20;
constexpr const char* kDamaged = "is it a safetensors file, complete?";

struct Entry {
  std::string dtype;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // in the data part
};

// Names in messages are cut: a hostile one may be as long as the header.
std::string in_quotes(const std::string& name) {
  return '"' + name.substr(0, limits::kNameBytesMax) + '"';
}

}  // namespace

struct Safetensors::Impl {
  ~Impl() {
    if (map != MAP_FAILED) ::munmap(map, size);
  }
  [[noreturn]] void fail(const std::string& what, const std::string& hint = kDamaged) const {
    throw DataError(path + ": " + what, hint);
  }
  const std::byte* data() const { return static_cast<const std::byte*>(map) + data_at; }
  const Entry& entry(const std::string& name) const {
    const auto found = entries.find(name);
    if (found == entries.end()) {
      fail("no tensor " + in_quotes(name),
           entries.empty() ? "the file holds no tensors"
                           : std::to_string(entries.size()) + " tensors are in it, the first is " +
                                 in_quotes(entries.begin()->first));
    }
    return found->second;
  }
  // Drops the whole pages of these bytes from memory; they come back from the file if read again.
  void give_back(const std::byte* from, std::size_t count) const;
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

void Safetensors::Impl::give_back(const std::byte* from, std::size_t count) const {
  static const auto kPage = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto start = static_cast<std::size_t>(from - static_cast<const std::byte*>(map));
  // The page where the bytes begin is whole too: what stands before them has been read already, or
  // is read again.
  const std::size_t first = start / kPage * kPage, last = (start + count) / kPage * kPage;
  if (last > first) ::madvise(static_cast<std::byte*>(map) + first, last - first, MADV_DONTNEED);
}

void Safetensors::Impl::map_file() {
  // A pipe would block in open() without O_NONBLOCK; plain files ignore it.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0 && errno == ENOENT) fail("no such file", "relative to the current directory");
  if (file < 0) fail(std::string("cannot be opened: ") + std::strerror(errno), "check permissions");
  struct stat status = {};
  const bool plain = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  if (plain) size = static_cast<std::size_t>(status.st_size);
  if (size >= kLengthBytes) map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  const int fault = errno;
  ::close(file);
  if (!plain) fail("not a plain file");
  if (size < kLengthBytes) fail("not a safetensors file: shorter than 8 bytes");
  if (map == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(fault));
}

void Safetensors::Impl::read_header() {
  const auto length = element<std::uint64_t>(static_cast<const std::byte*>(map), 0);
  if (length > limits::kSafetensorsHeaderBytesMax || length > size - kLengthBytes) {
    fail("header claims " + std::to_string(length) + " bytes, the file has " +
         std::to_string(size - kLengthBytes) + " after its length and at most " +
         std::to_string(limits::kSafetensorsHeaderBytesMax) + " are read");
  }
  data_at = kLengthBytes + static_cast<std::size_t>(length);
  const char* text = static_cast<const char*>(map) + kLengthBytes;
  // Names already seen at the top level: nlohmann keeps only the last of two.
  std::set<std::string> seen;
  std::string twin;
  std::size_t events = 0;
  bool too_deep = false, too_many = false;
  const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    too_deep = too_deep || depth > kHeaderDepthMax;
    too_many = too_many || ++events > kHeaderValuesMax;
    if (too_deep || too_many) return false;  // keeps nothing more
    if (event == Json::parse_event_t::key && depth == 1) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!seen.insert(name).second) twin = name;
    }
    return true;
  };
  const Json header = Json::parse(text, text + length, watch, false);
  if (too_deep) fail("header is nested too deeply");
  if (too_many) fail("header has more than " + std::to_string(kHeaderValuesMax) + " values");
  if (!header.is_object()) fail("header is not a JSON object");
  if (!twin.empty()) fail("tensor " + in_quotes(twin) + " appears twice");
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) fail("__metadata__ is not an object");
      for (const auto& [key, item] : value.items()) {
        if (!item.is_string()) fail("__metadata__ " + in_quotes(key) + " is not a text");
        metadata[key] = item;
      }
    } else {
      read_entry(name, value);
    }
  }
  check_coverage();
}

void Safetensors::Impl::read_entry(const std::string& name, const Json& json) {
  const std::string place = "tensor " + in_quotes(name) + ": ";
  if (name.size() > limits::kNameBytesMax) fail(place + "its name is too long");
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json["shape"].is_array() || !json.contains("data_offsets") ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    fail(place + "expected dtype, shape and data_offsets");
  }
  Entry entry;
  entry.dtype = json["dtype"];
  const std::size_t each = dtype_bytes(entry.dtype);
  if (each == 0)
    fail(place + "unknown dtype " + entry.dtype.substr(0, 16),
         "floating point of 16, 32 and 64 bits, integers and BOOL are read");
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
  Tensor tensor = Tensor::zeros(DType::f32, impl_->entry(name).shape);
  f32_into(name, tensor.f32());
  return tensor;
}

void Safetensors::f32_into(const std::string& name, std::span<float> out) const {
  const Entry& entry = impl_->entry(name);
  if (!is_floating(entry.dtype)) {
    impl_->fail("tensor " + in_quotes(name) + " is " + entry.dtype + ", expected floating point",
                "F16, BF16, F32 and F64 are widened or narrowed to 32 bits");
  }
  const std::size_t each = dtype_bytes(entry.dtype);
  FEDCTL_ASSERT(out.size() * each == entry.end - entry.begin);
  for (std::size_t at = 0; at < out.size(); at += kChunkElements) {
    const std::span<float> part = out.subspan(at, std::min(kChunkElements, out.size() - at));
    const std::byte* from = impl_->data() + entry.begin + at * each;
    widen(entry.dtype, from, part);
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (std::isfinite(part[i])) continue;
      impl_->fail(
          "tensor " + in_quotes(name) + ": value " + std::to_string(at + i) + " is not finite",
          "a training that diverged writes such files");
    }
    impl_->give_back(from, part.size() * each);
  }
}

Tensor Safetensors::i64(const std::string& name) const {
  const Entry& entry = impl_->entry(name);
  if (is_floating(entry.dtype)) {
    impl_->fail("tensor " + in_quotes(name) + " is " + entry.dtype + ", expected integers",
                "integers of 8 to 64 bits and BOOL are widened to 64");
  }
  Tensor tensor = Tensor::zeros(DType::i64, entry.shape);
  const std::span<std::int64_t> out = tensor.i64();
  widen(entry.dtype, impl_->data() + entry.begin, out);
  // A U64 of 2^63 or more has become negative.
  if (entry.dtype == "U64" && std::ranges::any_of(out, [](auto value) { return value < 0; }))
    impl_->fail("tensor " + in_quotes(name) + ": a value does not fit into 64 bits with a sign");
  return tensor;
}

Safetensors::RowView Safetensors::rows(const std::string& name) const {
  const Entry& entry = impl_->entry(name);
  if (entry.shape.empty()) impl_->fail("tensor " + in_quotes(name) + " is a scalar, expected rows");
  RowView view{entry.dtype, static_cast<std::size_t>(entry.shape[0]), 0,
               impl_->data() + entry.begin};
  view.row_elements = element_count({entry.shape.begin() + 1, entry.shape.end()});
  return view;
}

void Safetensors::RowView::widen_row(std::size_t row, std::span<float> out) const {
  const std::byte* at = data + row * row_elements * dtype_bytes(dtype);
  if (is_floating(dtype)) return widen(dtype, at, out);
  std::vector<std::int64_t> whole(out.size());
  widen(dtype, at, std::span<std::int64_t>(whole));
  std::ranges::transform(whole, out.begin(), [](auto value) { return static_cast<float>(value); });
}

}  // namespace fedctl::data
