// The safetensors file format: 8 bytes header length, JSON header, raw tensors. Read by memory map:
// opening a file touches only its header, and pages whose values have been copied are given back,
// so that a file never occupies memory beside what was made of it. A hostile file is refused with a
// reason (DataError naming the file and the tensor): header longer than
// limits::kSafetensorsHeaderBytesMax or than the file, bad JSON, unknown dtype, offsets out of the
// file, overlapping or with gaps, size unlike the shape, duplicate names.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.hpp"

namespace fedctl::data {

class Safetensors {
 public:
  static Safetensors open(const std::string& path);
  Safetensors(Safetensors&&) noexcept;
  Safetensors& operator=(Safetensors&&) noexcept;
  ~Safetensors();

  std::vector<std::string> names() const;  // sorted
  bool contains(const std::string& name) const;
  const Shape& shape(const std::string& name) const;           // throws DataError if absent
  const std::map<std::string, std::string>& metadata() const;  // "__metadata__"
  // The tensor widened to f32 (from F32, F16, BF16, F64) or to i64 (from integers). Throws
  // DataError if absent, of another kind, or with a value that is not finite.
  Tensor f32(const std::string& name) const;
  // The same into memory of the caller's, of exactly the tensor's elements.
  void f32_into(const std::string& name, std::span<float> out) const;
  Tensor i64(const std::string& name) const;

  // A tensor's rows (along its first axis) where they are mapped; lives as long as the file.
  struct RowView {
    std::string dtype;
    std::size_t count = 0, row_elements = 0;
    const std::byte* data = nullptr;
    // Any number type as float32, not checked. Preconditions: row < count, row_elements values.
    void widen_row(std::size_t row, std::span<float> out) const;
  };
  RowView rows(const std::string& name) const;  // throws DataError if absent or a scalar

 private:
  struct Impl;
  explicit Safetensors(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// How f32 tensors are stored; halves are rounded to the nearest, ties to even.
enum class Storage { f32, f16, bf16 };

// Writes f32, f64, i32, i64 and u8 tensors, in name order, atomically (temporary file, fsync,
// rename). Throws RunDirectoryError if the file cannot be written, DataError if a value is beyond
// what `storage` holds.
void write_safetensors(const std::string& path, const TensorMap& tensors,
                       const std::map<std::string, std::string>& metadata,
                       Storage storage = Storage::f32);

}  // namespace fedctl::data
