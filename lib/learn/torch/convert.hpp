// Between host tensors and torch's.
#pragma once

#include <span>

#include "base/assert.hpp"
#include "base/tensor.hpp"
#include "learn/torch/aten.hpp"

namespace fedctl::learn {

// A window on a host tensor of f32 or i64, which must outlive it; only to be read.
inline at::Tensor view_of(const Tensor& tensor) {
  FEDCTL_ASSERT(tensor.dtype == DType::f32 || tensor.dtype == DType::i64);
  return at::from_blob(const_cast<std::byte*>(tensor.bytes.data()), tensor.shape,
                       tensor.dtype == DType::f32 ? at::kFloat : at::kLong);
}

inline Shape shape_of(const at::Tensor& tensor) {
  return {tensor.sizes().begin(), tensor.sizes().end()};
}

// The values of a contiguous f32 tensor.
inline std::span<float> values_of(const at::Tensor& tensor) {
  FEDCTL_ASSERT(tensor.is_contiguous());
  return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

// In float32, whatever it is kept in.
inline Tensor copy_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kFloat).contiguous();
  return Tensor::of(std::span<const float>(values_of(flat)), shape_of(flat));
}

}  // namespace fedctl::learn
