#include "base/tensor.hpp"

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace fedctl {
namespace {

template <class T>
std::span<T> window(Bytes& bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}
template <class T>
std::span<const T> window(const Bytes& bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}
template <class T>
Tensor copy_of(DType dtype, std::span<const T> values, Shape shape) {
  if (shape.empty()) shape = {static_cast<std::int64_t>(values.size())};
  FEDCTL_ASSERT(element_count(shape) == values.size());
  const ByteView view = std::as_bytes(values);
  return {dtype, std::move(shape), Bytes(view.begin(), view.end())};
}

}  // namespace

std::size_t element_bytes(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::u8:
      return 1;
    case DType::coded:
      return 0;
  }
  FEDCTL_ASSERT(false);
  return 0;
}

const char* dtype_name(DType dtype) {
  static constexpr const char* kNames[] = {"f32", "f64", "i32", "i64", "u8", "coded"};
  return kNames[static_cast<std::size_t>(dtype)];
}

std::size_t element_count(const Shape& shape) {
  std::uint64_t count = 1;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) throw WireError("shape " + to_string(shape) + " has a negative dimension");
    if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(dimension), &count) ||
        count > limits::kElementsMax) {
      throw WireError("shape " + to_string(shape) + " has more than " +
                      std::to_string(limits::kElementsMax) + " elements");
    }
  }
  return static_cast<std::size_t>(count);
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (const std::int64_t dimension : shape) {
    if (text.size() > 1) text += ',';
    text += std::to_string(dimension);
  }
  return text + "]";
}

std::span<const float> Tensor::f32() const {
  FEDCTL_ASSERT(dtype == DType::f32);
  return window<float>(bytes);
}
std::span<float> Tensor::f32() {
  FEDCTL_ASSERT(dtype == DType::f32);
  return window<float>(bytes);
}
std::span<const std::int64_t> Tensor::i64() const {
  FEDCTL_ASSERT(dtype == DType::i64);
  return window<std::int64_t>(bytes);
}
std::span<const double> Tensor::f64() const {
  FEDCTL_ASSERT(dtype == DType::f64);
  return window<double>(bytes);
}
std::span<std::int64_t> Tensor::i64() {
  FEDCTL_ASSERT(dtype == DType::i64);
  return window<std::int64_t>(bytes);
}

Tensor Tensor::zeros(DType dtype, Shape shape) {
  Bytes bytes(element_count(shape) * element_bytes(dtype));
  return {dtype, std::move(shape), std::move(bytes)};
}
Tensor Tensor::of(std::span<const float> values, Shape shape) {
  return copy_of(DType::f32, values, std::move(shape));
}
Tensor Tensor::of(std::span<const std::int64_t> values, Shape shape) {
  return copy_of(DType::i64, values, std::move(shape));
}
Tensor Tensor::of(std::span<const double> values, Shape shape) {
  return copy_of(DType::f64, values, std::move(shape));
}

}  // namespace fedctl
