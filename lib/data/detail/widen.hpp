// Elements of a safetensors file, at any alignment, in the type that is computed with.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace fedctl::data {

template <class From>
From element(const std::byte* data, std::size_t index) {
  From value;
  std::memcpy(&value, data + index * sizeof(From), sizeof(From));
  return value;
}

inline float half_to_float(std::uint16_t half) {
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

inline float brain_to_float(std::uint16_t brain) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(brain) << 16);
}

template <class From, class To>
void widen_from(const std::byte* data, std::span<To> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<To>(element<From>(data, i));
}

inline bool is_floating(const std::string& dtype) {
  return dtype.starts_with('F') || dtype == "BF16";
}

// Precondition of both: `dtype` is of their kind and known to dtype_bytes().
inline void widen(const std::string& dtype, const std::byte* data, std::span<float> out) {
  if (dtype == "F32") return widen_from<float>(data, out);
  if (dtype == "F64") return widen_from<double>(data, out);
  const auto convert = dtype == "F16" ? half_to_float : brain_to_float;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = convert(element<std::uint16_t>(data, i));
}
inline void widen(const std::string& dtype, const std::byte* data, std::span<std::int64_t> out) {
  if (dtype == "I32") return widen_from<std::int32_t>(data, out);
  if (dtype == "U32") return widen_from<std::uint32_t>(data, out);
  if (dtype == "I16") return widen_from<std::int16_t>(data, out);
  if (dtype == "U16") return widen_from<std::uint16_t>(data, out);
  if (dtype == "I8") return widen_from<std::int8_t>(data, out);
  if (dtype == "U8" || dtype == "BOOL") return widen_from<std::uint8_t>(data, out);
  widen_from<std::int64_t>(data, out);  // I64, U64
}

// Bytes of an element; 0 if there is no such dtype.
inline std::size_t dtype_bytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL") return 1;
  return 0;
}

}  // namespace fedctl::data
