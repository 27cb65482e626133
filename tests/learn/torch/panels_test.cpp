// The panel loops of the fused step against their formulas in double precision. What they make
// together is compared with the operators in fused_test.cpp.
#include "learn/torch/panels.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "base/rng.hpp"

namespace panels = fedctl::learn::panels;
using Floats = std::vector<float>;

namespace {

constexpr std::int64_t kTokens = panels::kTokens;

Floats normals(std::int64_t count, std::uint64_t seed) {
  fedctl::Rng rng(seed);
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

double at(const Floats& values, std::int64_t index) {
  return static_cast<double>(values[static_cast<std::size_t>(index)]);
}

}  // namespace

TEST_CASE("products of any size are sums of products", "[learn][panels]") {
  const std::int64_t rows = GENERATE(1, 3, 4, 8, 13, 23);
  const std::int64_t columns = GENERATE(1, 15, 16, 17, 32, 47, 64);
  const std::int64_t depth = GENERATE(1, 5, 33);
  const bool turned = GENERATE(false, true), onto = GENERATE(false, true);
  CAPTURE(rows, columns, depth, turned, onto);
  const std::int64_t stride = columns + 3, out_stride = columns + 1;
  const Floats left = normals(rows * depth, 1);
  const Floats right = normals(depth * stride + panels::kSlack, 2);
  const Floats start = normals(rows * out_stride, 3);
  Floats out = start;
  const panels::Left element =
      turned ? panels::Left{left.data(), 1, rows} : panels::Left{left.data(), depth, 1};
  panels::multiply({element, rows, depth, right.data(), stride, columns,
                    onto ? out.data() : nullptr, out.data(), out_stride});
  for (std::int64_t m = 0; m < rows; ++m) {
    for (std::int64_t n = 0; n < columns; ++n) {
      double sum = onto ? at(start, m * out_stride + n) : 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += at(left, turned ? k * rows + m : m * depth + k) * at(right, k * stride + n);
      }
      REQUIRE(at(out, m * out_stride + n) == Approx(sum).margin(2e-5));
    }
    // Nothing is written between the rows.
    REQUIRE(at(out, m * out_stride + columns) == at(start, m * out_stride + columns));
  }
}

TEST_CASE("each token of a panel has its own loss and gradient", "[learn][panels]") {
  const std::int64_t classes = GENERATE(2, 17, 300);
  const double smoothing = GENERATE(0.0, 0.2);
  CAPTURE(classes, smoothing);
  const Floats logits = [&] {
    Floats values = normals(classes * kTokens, 4);
    for (float& value : values) value *= 6;
    return values;
  }();
  std::int32_t labels[kTokens];
  for (std::int32_t t = 0; t < kTokens; ++t) {
    labels[t] = t % 5 == 3 ? panels::kNone : t % static_cast<std::int32_t>(classes);
  }
  Floats gradient = logits;
  panels::Losses trained, scored;
  panels::cross_entropy_backward(classes, gradient.data(), labels, smoothing, 0.25F, trained);
  panels::cross_entropy(classes, logits.data(), labels, scored);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    CAPTURE(t);
    double sum = 0, mean = 0;
    std::int64_t largest = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
      sum += std::exp(at(logits, c * kTokens + t));
      mean += at(logits, c * kTokens + t) / static_cast<double>(classes);
      if (at(logits, c * kTokens + t) > at(logits, largest * kTokens + t)) largest = c;
    }
    const bool none = labels[t] == panels::kNone;
    const double label = none ? 0 : at(logits, labels[t] * kTokens + t);
    const double plain = none ? 0 : std::log(sum) - label;
    CHECK(scored.loss[t] == Approx(plain).margin(1e-6));
    CHECK(trained.loss[t] == Approx(none ? 0 : plain + smoothing * (label - mean)).margin(1e-6));
    CHECK(scored.correct[t] == (!none && labels[t] == largest));
    for (std::int64_t c = 0; c < classes; ++c) {
      const double target =
          smoothing / static_cast<double>(classes) + (c == labels[t] ? 1 - smoothing : 0);
      const double slope = std::exp(at(logits, c * kTokens + t)) / sum - target;
      REQUIRE(at(gradient, c * kTokens + t) == Approx(none ? 0 : 0.25 * slope).margin(1e-6));
    }
  }
}

TEST_CASE("norms and gates of a panel are their formulas", "[learn][panels]") {
  const std::int64_t width = GENERATE(1, 6, 64);
  const Floats x = normals(width * kTokens, 5), weight = normals(width, 6);
  Floats y(x), again(x), inverse(static_cast<std::size_t>(kTokens));
  panels::norm_forward(width, x.data(), weight.data(), 1e-5F, y.data(), inverse.data());
  panels::norm_again(width, x.data(), weight.data(), inverse.data(), again.data());
  CHECK(y == again);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    double mean = 1e-5;
    for (std::int64_t f = 0; f < width; ++f) {
      mean += std::pow(at(x, f * kTokens + t), 2) / static_cast<double>(width);
    }
    for (std::int64_t f = 0; f < width; ++f) {
      const double expected = at(x, f * kTokens + t) * at(weight, f) / std::sqrt(mean);
      REQUIRE(at(y, f * kTokens + t) == Approx(expected).epsilon(1e-6));
    }
  }
  Floats gate = x, up = y, open = x, d_gate = x, d_up = y;
  for (float& value : gate) value *= 20;  // far into both tails
  d_gate = gate;
  panels::swiglu_slopes(width * kTokens, d_gate.data(), d_up.data(), open.data());
  Floats value = gate;
  panels::swiglu(width * kTokens, value.data(), up.data());
  for (std::int64_t i = 0; i < width * kTokens; ++i) {
    const double s = 1 / (1 + std::exp(-at(gate, i)));
    CHECK(at(value, i) == Approx(at(gate, i) * s * at(up, i)).epsilon(1e-5).margin(1e-25));
    CHECK(at(open, i) == Approx(at(value, i)).epsilon(1e-6));
    const double slope = at(up, i) * s * (1 + at(gate, i) * (1 - s));
    CHECK(at(d_gate, i) == Approx(slope).epsilon(1e-5).margin(1e-6));
    CHECK(at(d_up, i) == Approx(at(gate, i) * s).epsilon(1e-5).margin(1e-25));
  }
}
