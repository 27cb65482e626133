#include "methods/detail/scalars.hpp"

#include <cstring>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "math/vectors.hpp"

namespace fedctl::methods {

ScalarCode::ScalarCode(const std::string& name)
    : width_(name == "float32"   ? 4
             : name == "float16" ? 2
                                 : 1) {
  if (name == "float32") return;
  const codec::BlockSize none{0};
  codec_ = codec::make_chain(
      {config::make_plugin(codec::codec_kinds(), name == "byte" ? "logbyte" : name)}, "none",
      codec::Blocks(&none, 1));
}

void ScalarCode::field(config::Fields& fields, std::string& name) {
  fields.text("scalars", name, {.one_of = {"float32", "float16", "byte"}},
              "how numbers are sent; byte: sign and logarithm, 3.8e-4 to 2634");
}

Bytes ScalarCode::encode(std::span<const float> values, const Rng& rng) const {
  if (codec_) {
    Rng draws = rng;
    return codec_->encode(values, draws);
  }
  const ByteView raw = std::as_bytes(values);
  return {raw.begin(), raw.end()};
}

std::vector<float> ScalarCode::decode(ByteView bytes, std::size_t count) const {
  if (bytes.size() != width_ * count) {
    throw WireError(std::to_string(bytes.size()) + " bytes of numbers, expected " +
                    std::to_string(width_ * count));
  }
  std::vector<float> values(count);
  if (codec_) {
    codec_->decode(bytes, values);
    return values;
  }
  if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  if (!math::all_finite(values)) throw WireError("a number is not finite");
  return values;
}

Tensor tensor_of(Bytes bytes) {
  const auto count = static_cast<std::int64_t>(bytes.size());
  return {DType::u8, {count}, std::move(bytes)};
}

ByteView bytes_in(const wire::Message& message, const std::string& name) {
  const auto found = message.tensors.find(name);
  if (found == message.tensors.end() || found->second.dtype != DType::u8) {
    throw ProtocolError('"' + message.kind + "\" has no bytes \"" + name + '"');
  }
  return found->second.bytes;
}

Bytes words_of(std::span<const std::size_t> numbers) {
  Bytes bytes;
  bytes.reserve(2 * numbers.size());
  for (const std::size_t number : numbers) {
    FEDCTL_ASSERT(number < 65536);
    bytes.push_back(static_cast<std::byte>(number & 0xff));
    bytes.push_back(static_cast<std::byte>(number >> 8));
  }
  return bytes;
}

std::vector<std::size_t> words_in(ByteView bytes, std::size_t bound) {
  if (bytes.size() % 2 != 0) throw ProtocolError("numbers of two bytes end early");
  std::vector<std::size_t> numbers(bytes.size() / 2);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = std::to_integer<std::size_t>(bytes[2 * i]) |
                 std::to_integer<std::size_t>(bytes[2 * i + 1]) << 8;
    if (numbers[i] >= bound) {
      throw ProtocolError("number " + std::to_string(numbers[i]) + ", expected one below " +
                          std::to_string(bound));
    }
  }
  return numbers;
}

}  // namespace fedctl::methods
