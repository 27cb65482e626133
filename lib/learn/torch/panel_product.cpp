// Products of small matrices. A tile of the result stays in registers while the loop runs over the
// depth, one multiplication and addition after the other: the sum of an element does not depend on
// how the result is cut into tiles.
#include <algorithm>

#include "learn/torch/lanes.hpp"
#include "learn/torch/panels.hpp"

namespace fedctl::learn::panels {
namespace {

using loops::kLanes;
using loops::Lanes;
using loops::load;
using loops::store;

// kRows x (16 * kWide) elements from (m, n) on; the last `cut` columns are not stored.
template <int kRows, int kWide>
FEDCTL_INLINE void tile(const Product& p, std::int64_t m, std::int64_t n, std::int64_t cut) {
  Lanes sum[kRows][kWide];
  for (int i = 0; i < kRows; ++i) {
    for (int w = 0; w < kWide; ++w) {
      const float* const from = p.start + (m + i) * p.out_stride + n + w * kLanes;
      if (p.start == nullptr) {
        sum[i][w] = Lanes{};
      } else if (cut == 0) {
        sum[i][w] = load(from);
      } else {
        float part[kLanes] = {};
        std::copy_n(from, kLanes - cut, part);
        sum[i][w] = load(part);
      }
    }
  }
  const float* left = p.left.at + m * p.left.row;
  const float* right = p.right + n;
  for (std::int64_t k = 0; k < p.depth; ++k, left += p.left.depth, right += p.right_stride) {
    Lanes row[kWide];
    for (int w = 0; w < kWide; ++w) row[w] = load(right + w * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const float factor = left[i * p.left.row];
      for (int w = 0; w < kWide; ++w) sum[i][w] += row[w] * factor;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int w = 0; w < kWide; ++w) {
      float* const to = p.out + (m + i) * p.out_stride + n + w * kLanes;
      if (cut == 0) {
        store(to, sum[i][w]);
      } else {
        float part[kLanes];
        store(part, sum[i][w]);
        std::copy_n(part, kLanes - cut, to);
      }
    }
  }
}

template <int kRows, int kWide>
FEDCTL_INLINE void stripe(const Product& p, std::int64_t n, std::int64_t cut) {
  std::int64_t m = 0;
  for (; m + kRows <= p.rows; m += kRows) tile<kRows, kWide>(p, m, n, cut);
  if constexpr (kRows > 4) {
    for (; m + 4 <= p.rows; m += 4) tile<4, kWide>(p, m, n, cut);
  }
  for (; m < p.rows; ++m) tile<1, kWide>(p, m, n, cut);
}

// kRows: as many as the registers hold.
template <int kRows>
FEDCTL_INLINE void run(const Product& p) {
  std::int64_t n = 0;
  for (; n + 2 * kLanes <= p.columns; n += 2 * kLanes) stripe<kRows, 2>(p, n, 0);
  for (; n + kLanes <= p.columns; n += kLanes) stripe<kRows, 1>(p, n, 0);
  if (n < p.columns) stripe<kRows, 1>(p, n, n + kLanes - p.columns);
}

using Run = void (*)(const Product&);

void run_any(const Product& p) { run<1>(p); }

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))) void run_512(const Product& p) {
  run<8>(p);
}
__attribute__((target("avx2,fma"))) void run_256(const Product& p) { run<3>(p); }

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
