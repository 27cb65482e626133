#include <cmath>

#include "base/floats.hpp"
#include "base/legible.hpp"
#include "wire/message.hpp"

namespace fedctl::wire {

Expect::Expect(const Message& message, const std::string& kind) : message_(message) {
  if (message.kind != kind) {
    throw ProtocolError("message \"" + message.kind + "\" where \"" + kind + "\" was expected");
  }
}

template <class T>
const T& Expect::scalar(const std::string& name, const char* type) const {
  const auto found = message_.scalars.find(name);
  if (found == message_.scalars.end()) {
    throw ProtocolError('"' + message_.kind + "\" has no scalar \"" + name + '"');
  }
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) {
    throw ProtocolError('"' + message_.kind + "\", scalar \"" + name + "\": expected " + type);
  }
  return *value;
}

std::int64_t Expect::integer(const std::string& name, std::int64_t min, std::int64_t max) const {
  const auto value = scalar<std::int64_t>(name, "an integer");
  if (value < min || value > max) {
    throw ProtocolError('"' + message_.kind + "\", scalar \"" + name +
                        "\": " + std::to_string(value) + " is not in [" + std::to_string(min) +
                        ", " + std::to_string(max) + "]");
  }
  return value;
}

double Expect::real(const std::string& name) const {
  const auto value = scalar<double>(name, "a real number");
  if (!std::isfinite(value)) {
    throw ProtocolError('"' + message_.kind + "\", scalar \"" + name + "\" is not finite");
  }
  return value;
}

const std::string& Expect::text(const std::string& name) const {
  return scalar<std::string>(name, "a text");
}

std::string Expect::words(const std::string& name) const { return legible(text(name)); }

std::span<const float> Expect::f32(const std::string& name, const Shape& shape) const {
  const auto found = message_.tensors.find(name);
  const std::string place = '"' + message_.kind + "\", tensor \"" + name + "\": ";
  if (found == message_.tensors.end()) throw ProtocolError(place + "missing");
  const Tensor& tensor = found->second;
  if (tensor.dtype != DType::f32) {
    throw ProtocolError(place + dtype_name(tensor.dtype) + ", expected f32");
  }
  if (tensor.shape != shape) {
    throw ProtocolError(place + "shape " + to_string(tensor.shape) + ", expected " +
                        to_string(shape));
  }
  const std::span<const float> values = tensor.f32();
  if (const auto bad = first_not_finite(values)) {
    throw ProtocolError(place + "value " + std::to_string(*bad) + " is not finite");
  }
  return values;
}

}  // namespace fedctl::wire
