#include "wire/message.hpp"

#include <cstring>

#include "base/assert.hpp"
#include "base/legible.hpp"
#include "base/limits.hpp"
#include "wire/owned.hpp"

namespace fedctl::wire {
namespace {

enum class ScalarType : std::uint8_t { integer = 0, real = 1, boolean = 2, text = 3 };

void encode_scalar(const Scalar& value, ByteWriter& out) {
  out.number(static_cast<std::uint8_t>(value.index()));
  if (const auto* integer = std::get_if<std::int64_t>(&value)) out.number(*integer);
  if (const auto* real = std::get_if<double>(&value)) out.number(*real);
  if (const auto* boolean = std::get_if<bool>(&value)) {
    out.number(static_cast<std::uint8_t>(*boolean ? 1 : 0));
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    FEDCTL_ASSERT(text->size() <= limits::kTextBytesMax);
    out.text(*text);
  }
}

Scalar decode_scalar(ByteReader& in) {
  switch (static_cast<ScalarType>(in.number<std::uint8_t>())) {
    case ScalarType::integer:
      return in.number<std::int64_t>();
    case ScalarType::real:
      return in.number<double>();
    case ScalarType::boolean: {
      const auto value = in.number<std::uint8_t>();
      if (value > 1) throw WireError("a boolean is neither 0 nor 1");
      return value == 1;
    }
    case ScalarType::text:
      return in.text(limits::kTextBytesMax);
  }
  throw WireError("unknown scalar type");
}

void encode_tensor(const Tensor& tensor, ByteWriter& out) {
  FEDCTL_ASSERT(tensor.shape.size() <= limits::kRankMax);
  out.number(static_cast<std::uint8_t>(tensor.dtype));
  out.number(static_cast<std::uint8_t>(tensor.shape.size()));
  for (const std::int64_t dimension : tensor.shape) {
    out.varint(static_cast<std::uint64_t>(dimension));
  }
  if (tensor.dtype == DType::coded) {
    out.varint(tensor.bytes.size());
  } else {
    FEDCTL_ASSERT(tensor.bytes.size() == element_count(tensor.shape) * element_bytes(tensor.dtype));
  }
  out.raw(tensor.bytes);
}

// `owner`, if any: the buffer that is read, which the tensor at its end takes over.
Tensor decode_tensor(ByteReader& in, Bytes* owner) {
  Tensor tensor;
  const auto dtype = in.number<std::uint8_t>();
  if (dtype > static_cast<std::uint8_t>(DType::coded)) {
    throw WireError("unknown dtype " + std::to_string(dtype));
  }
  tensor.dtype = static_cast<DType>(dtype);
  const auto rank = in.number<std::uint8_t>();
  if (rank > limits::kRankMax)
    throw WireError("rank " + std::to_string(rank) + " is above the limit");
  for (unsigned axis = 0; axis < rank; ++axis) {
    const std::uint64_t dimension = in.varint();
    if (dimension > limits::kElementsMax) throw WireError("a dimension is above the limit");
    tensor.shape.push_back(static_cast<std::int64_t>(dimension));
  }
  const std::size_t count = element_count(tensor.shape);
  const std::uint64_t bytes =
      tensor.dtype == DType::coded ? in.varint() : count * element_bytes(tensor.dtype);
  if (bytes > in.left()) {
    throw WireError("tensor of " + std::to_string(bytes) + " bytes, " + std::to_string(in.left()) +
                    " left");
  }
  const ByteView view = in.raw(static_cast<std::size_t>(bytes));
  if (owner != nullptr && in.done() && !view.empty()) {
    std::memmove(owner->data(), view.data(), view.size());
    owner->resize(view.size());
    tensor.bytes = std::move(*owner);
  } else {
    tensor.bytes.assign(view.begin(), view.end());
  }
  return tensor;
}

// Names stand in errors, and those on terminals.
std::string decode_name(ByteReader& in) {
  std::string name = in.text(limits::kNameBytesMax);
  if (legible(name) != name) throw WireError("a name that is not legible: " + legible(name));
  return name;
}

// A map as count, then name and value with names strictly ascending.
template <class Value, class Encode>
void encode_map(const std::map<std::string, Value>& map, std::size_t count_max, ByteWriter& out,
                Encode encode_value) {
  FEDCTL_ASSERT(map.size() <= count_max);
  out.varint(map.size());
  for (const auto& [name, value] : map) {
    FEDCTL_ASSERT(name.size() <= limits::kNameBytesMax);
    out.text(name);
    encode_value(value, out);
  }
}

template <class Value, class Decode>
std::map<std::string, Value> decode_map(const char* what, std::size_t count_max, ByteReader& in,
                                        Decode decode_value) {
  const std::uint64_t count = in.varint();
  if (count > count_max) {
    throw WireError(std::to_string(count) + ' ' + what + ", at most " + std::to_string(count_max));
  }
  std::map<std::string, Value> map;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string name = decode_name(in);
    if (!map.empty() && name <= map.rbegin()->first) {
      throw WireError(std::string(what) + " are not in ascending order of name");
    }
    map.emplace_hint(map.end(), std::move(name), decode_value(in));
  }
  return map;
}

Message decode_from(ByteView bytes, Bytes* owner) {
  ByteReader reader(bytes);
  Message message(decode_name(reader));
  message.scalars =
      decode_map<Scalar>("scalars", limits::kScalarsPerMessageMax, reader, decode_scalar);
  message.tensors =
      decode_map<Tensor>("tensors", limits::kTensorsPerMessageMax, reader,
                         [owner](ByteReader& in) { return decode_tensor(in, owner); });
  if (!reader.done()) {
    throw WireError(std::to_string(reader.left()) + " bytes after the end of the message");
  }
  return message;
}

}  // namespace

Message&& Message::with(std::string name, Scalar value) && {
  scalars.insert_or_assign(std::move(name), std::move(value));
  return std::move(*this);
}
Message&& Message::with(std::string name, Tensor value) && {
  tensors.insert_or_assign(std::move(name), std::move(value));
  return std::move(*this);
}

void encode(const Message& message, Bytes& out) {
  FEDCTL_ASSERT(message.kind.size() <= limits::kNameBytesMax);
  ByteWriter writer(out);
  writer.text(message.kind);
  encode_map(message.scalars, limits::kScalarsPerMessageMax, writer, encode_scalar);
  encode_map(message.tensors, limits::kTensorsPerMessageMax, writer, encode_tensor);
}

std::size_t payload_bytes(const Message& message) {
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : message.tensors) bytes += tensor.bytes.size();
  return bytes;
}

Message decode(ByteView bytes) { return decode_from(bytes, nullptr); }

Message decode_owned(Bytes buffer, std::size_t begin) {
  return decode_from(ByteView(buffer).subspan(begin), &buffer);
}

}  // namespace fedctl::wire
