// Tensor: values with a shape in host memory, row-major, little-endian. A plain value.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace fedctl {

// The numbers are part of the wire format (docs/protocol.md); `coded` bytes are a codec's output,
// and the shape is that of the float32 tensor they stand for.
enum class DType : std::uint8_t { f32 = 0, f64 = 1, i32 = 2, i64 = 3, u8 = 4, coded = 5 };

// Bytes of one element; 0 for `coded`, whose size does not follow from its shape.
std::size_t element_bytes(DType dtype);
const char* dtype_name(DType dtype);

using Shape = std::vector<std::int64_t>;

// Product of the dimensions. Throws WireError on a negative dimension, on overflow, or when the
// product exceeds limits::kElementsMax.
std::size_t element_count(const Shape& shape);
std::string to_string(const Shape& shape);  // "[8,64]"

struct Tensor {
  DType dtype = DType::f32;
  Shape shape;
  Bytes bytes;

  // Typed windows; FEDCTL_ASSERT on another dtype.
  std::span<const float> f32() const;
  std::span<float> f32();
  std::span<const std::int64_t> i64() const;
  std::span<std::int64_t> i64();
  std::span<const double> f64() const;

  static Tensor zeros(DType dtype, Shape shape);
  static Tensor of(std::span<const float> values, Shape shape);  // one axis if shape is empty
  static Tensor of(std::span<const std::int64_t> values, Shape shape);
  static Tensor of(std::span<const double> values, Shape shape);

  bool operator==(const Tensor&) const = default;
};

using TensorMap = std::map<std::string, Tensor>;

}  // namespace fedctl
