// Message: what parties say to each other. One container serves as frame, checkpoint and replay
// record.
//
// Encoding (docs/protocol.md): kind, scalars by name, tensors by name; names ascending, lengths as
// shortest LEB128, numbers little-endian. Equal messages have equal bytes, and bytes that are not
// the encoding of some message are refused.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>

#include "base/bytes.hpp"
#include "base/tensor.hpp"

namespace fedctl::wire {

using Scalar = std::variant<std::int64_t, double, bool, std::string>;

struct Message {
  std::string kind;  // "train", "update", ...
  std::map<std::string, Scalar> scalars;
  TensorMap tensors;

  explicit Message(std::string kind_) : kind(std::move(kind_)) {}
  Message&& with(std::string name, Scalar value) &&;
  Message&& with(std::string name, Tensor value) &&;
  bool operator==(const Message&) const = default;
};

// Messages are shared, so that one broadcast is encoded once.
using SharedMessage = std::shared_ptr<const Message>;
inline SharedMessage share(Message message) {
  return std::make_shared<const Message>(std::move(message));
}

// Whether `remembered` was made from this very one: true of no other, also when it has taken its
// address.
inline bool same(const SharedMessage& message, const std::weak_ptr<const Message>& remembered) {
  return !message.owner_before(remembered) && !remembered.owner_before(message);
}

// Appends the encoding. Names and counts beyond base/limits.hpp are bugs here (FEDCTL_ASSERT).
void encode(const Message& message, Bytes& out);
// Bytes of tensor data in the message: the part of a frame that is payload.
std::size_t payload_bytes(const Message& message);
// Throws WireError naming the field. Tensor sizes follow from dtype and shape and are checked
// against what is left before anything is allocated.
Message decode(ByteView bytes);

// Typed, late reading of a received message; every fault is a ProtocolError that names kind and
// field.
class Expect {
 public:
  // Throws if the message is of another kind.
  Expect(const Message& message, const std::string& kind);
  std::int64_t integer(const std::string& name, std::int64_t min, std::int64_t max) const;
  double real(const std::string& name) const;  // finite
  const std::string& text(const std::string& name) const;
  // A text for people, as base/legible.hpp leaves it: cut, and harmless to a terminal.
  std::string words(const std::string& name) const;
  // A float32 tensor of exactly this shape, all values finite.
  std::span<const float> f32(const std::string& name, const Shape& shape) const;

 private:
  template <class T>
  const T& scalar(const std::string& name, const char* type) const;
  const Message& message_;
};

}  // namespace fedctl::wire
