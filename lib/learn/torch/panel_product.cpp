// Products of small matrices. A tile of the result stays in registers while the loop runs over the
// depth, one multiplication and addition after the other: the sum of an element does not depend on
// how the result is cut into tiles.
#include <algorithm>

#include "learn/torch/lanes.hpp"
#include "learn/torch/panels.hpp"

namespace fedctl::learn::panels {
namespace {

// A register, or as good as: sixteen, eight or four floats.
typedef float Sixteen __attribute__((vector_size(64)));
typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

template <class Vector>
inline constexpr std::int64_t kFloats = sizeof(Vector) / sizeof(float);

// The first `count` floats; all if they are none too many.
template <class Vector>
FEDCTL_INLINE Vector take(const float* from, std::int64_t count) {
  Vector vector{};
  if (count >= kFloats<Vector>) {
    std::memcpy(&vector, from, sizeof vector);
  } else {
    for (std::int64_t i = 0; i < count; ++i) vector[i] = from[i];
  }
  return vector;
}
template <class Vector>
FEDCTL_INLINE void put(float* to, const Vector& vector, std::int64_t count) {
  if (count >= kFloats<Vector>) {
    std::memcpy(to, &vector, sizeof vector);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = vector[i];
  }
}

// kRows x kWide vectors of the result from (m, n) on, `count` columns of them.
template <class Vector, int kRows, int kWide>
FEDCTL_INLINE void tile(const Product& p, std::int64_t m, std::int64_t n, std::int64_t count) {
  Vector sum[kRows][kWide] = {};
  for (int i = 0; i < kRows && p.start != nullptr; ++i) {
    for (int w = 0; w < kWide; ++w) {
      const std::int64_t skip = w * kFloats<Vector>;
      sum[i][w] = take<Vector>(p.start + (m + i) * p.out_stride + n + skip, count - skip);
    }
  }
  const float* left = p.left.at + m * p.left.row;
  const float* right = p.right + n;
  for (std::int64_t k = 0; k < p.depth; ++k, left += p.left.depth, right += p.right_stride) {
    Vector row[kWide];
    for (int w = 0; w < kWide; ++w) {
      std::memcpy(&row[w], right + w * kFloats<Vector>, sizeof row[w]);
    }
    for (int i = 0; i < kRows; ++i) {
      const float factor = left[i * p.left.row];
      for (int w = 0; w < kWide; ++w) sum[i][w] += row[w] * factor;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int w = 0; w < kWide; ++w) {
      const std::int64_t skip = w * kFloats<Vector>;
      put(p.out + (m + i) * p.out_stride + n + skip, sum[i][w], count - skip);
    }
  }
}

template <class Vector, int kRows, int kWide>
FEDCTL_INLINE void stripe(const Product& p, std::int64_t n, std::int64_t count) {
  std::int64_t m = 0;
  for (; m + kRows <= p.rows; m += kRows) tile<Vector, kRows, kWide>(p, m, n, count);
  if constexpr (kRows > 4) {
    for (; m + 4 <= p.rows; m += 4) tile<Vector, 4, kWide>(p, m, n, count);
  }
  for (; m < p.rows; ++m) tile<Vector, 1, kWide>(p, m, n, count);
}

// kRows: as many as the registers hold.
template <class Vector, int kRows>
FEDCTL_INLINE void run(const Product& p) {
  constexpr std::int64_t kOne = kFloats<Vector>;
  std::int64_t n = 0;
  for (; n + 2 * kOne <= p.columns; n += 2 * kOne) stripe<Vector, kRows, 2>(p, n, 2 * kOne);
  for (; n + kOne <= p.columns; n += kOne) stripe<Vector, kRows, 1>(p, n, kOne);
  if (n < p.columns) stripe<Vector, kRows, 1>(p, n, p.columns - n);
}

using Run = void (*)(const Product&);

void run_any(const Product& p) { run<Four, 4>(p); }

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))) void run_512(const Product& p) {
  run<Sixteen, 8>(p);
}
__attribute__((target("avx2,fma"))) void run_256(const Product& p) { run<Eight, 6>(p); }

Run pick() {
  if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
    return run_512;
  }
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? run_256 : run_any;
}
#else
Run pick() { return run_any; }
#endif

}  // namespace

void multiply(const Product& product) {
  static const Run kRun = pick();
  kRun(product);
}

}  // namespace fedctl::learn::panels
