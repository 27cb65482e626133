// The hand-written loops against their textbook formulas in double precision, and their gradients
// against finite differences of those formulas.
#include "learn/torch/loops.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <vector>

#include "base/rng.hpp"

namespace loops = fedctl::learn::loops;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

namespace {

Floats normals(std::int64_t count, fedctl::Rng rng) {
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}
Doubles widened(const Floats& values) { return {values.begin(), values.end()}; }

struct Tables {
  Floats cosine, sine;
};
Tables rotary(std::int64_t length, std::int64_t half) {
  Tables tables;
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t d = 0; d < half; ++d) {
      const double angle = static_cast<double>(i) * std::pow(100.0, -static_cast<double>(d));
      tables.cosine.push_back(static_cast<float>(std::cos(angle)));
      tables.sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return tables;
}

// Row i of head h, rotated if there are tables.
Doubles head_row(const loops::AttentionShape& shape, const Doubles& rows, std::int64_t heads,
                 std::int64_t n, std::int64_t i, std::int64_t h, bool rotate) {
  const std::int64_t width = shape.head_width, half = width / 2;
  const auto from = rows.begin() + ((n * shape.length + i) * heads + h) * width;
  Doubles row(from, from + width);
  if (!rotate || shape.cosine == nullptr) return row;
  Doubles turned(row);
  for (std::int64_t d = 0; d < half; ++d) {
    const double c = shape.cosine[i * half + d], s = shape.sine[i * half + d];
    const auto low = static_cast<std::size_t>(d), high = static_cast<std::size_t>(d + half);
    turned[low] = row[low] * c - row[high] * s;
    turned[high] = row[high] * c + row[low] * s;
  }
  return turned;
}

// softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, equation 1), one pair at a time.
Doubles attention(const loops::AttentionShape& s, const Doubles& q, const Doubles& k,
                  const Doubles& v) {
  Doubles out(q.size());
  for (std::int64_t n = 0; n < s.batch; ++n) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t g = h / (s.heads / s.kv_heads);
      for (std::int64_t i = 0; i < s.length; ++i) {
        const Doubles query = head_row(s, q, s.heads, n, i, h, true);
        Doubles mixed(query.size());
        double sum = 0;
        for (std::int64_t j = 0; j < (s.causal ? i + 1 : s.length); ++j) {
          const Doubles key = head_row(s, k, s.kv_heads, n, j, g, true);
          const Doubles value = head_row(s, v, s.kv_heads, n, j, g, false);
          double dot = 0;
          for (std::size_t d = 0; d < key.size(); ++d) dot += query[d] * key[d];
          const double weight = std::exp(dot / std::sqrt(static_cast<double>(s.head_width)));
          sum += weight;
          for (std::size_t d = 0; d < key.size(); ++d) mixed[d] += weight * value[d];
        }
        for (std::size_t d = 0; d < mixed.size(); ++d) {
          const auto column = static_cast<std::int64_t>(d);
          out[static_cast<std::size_t>(((n * s.length + i) * s.heads + h) * s.head_width +
                                       column)] = mixed[d] / sum;
        }
      }
    }
  }
  return out;
}

double dot(const Doubles& a, const Floats& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * static_cast<double>(b[i]);
  return sum;
}

// Every entry of `gradient` against the central difference of `value` at `at`.
void require_gradient(const Floats& at, const Floats& gradient,
                      const std::function<double(const Doubles&)>& value) {
  constexpr double kStep = 1e-5;
  for (std::size_t i = 0; i < at.size(); ++i) {
    Doubles point = widened(at);
    point[i] += kStep;
    const double above = value(point);
    point[i] -= 2 * kStep;
    const double expected = (above - value(point)) / (2 * kStep);
    INFO("entry " << i);
    REQUIRE(static_cast<double>(gradient[i]) == Approx(expected).margin(5e-5).epsilon(1e-4));
  }
}

}  // namespace

TEST_CASE("attention and its gradient are those of the formula", "[learn][torch][loops]") {
  struct Case {
    std::int64_t batch, length, heads, kv_heads, width;
    bool causal, rotate;
  };
  // Lengths below, at and beyond a block of sixteen; widths that are and are not multiples of
  // eight.
  const Case c = GENERATE(Case{2, 5, 2, 1, 4, true, true}, Case{1, 16, 4, 2, 8, true, true},
                          Case{1, 19, 2, 2, 6, false, false}, Case{2, 17, 3, 1, 10, true, false},
                          Case{1, 1, 1, 1, 2, true, true}, Case{1, 3, 2, 2, 16, false, true});
  const Tables tables = rotary(c.length, c.width / 2);
  const loops::AttentionShape shape{c.batch,
                                    c.length,
                                    c.heads,
                                    c.kv_heads,
                                    c.width,
                                    c.causal,
                                    c.rotate ? tables.cosine.data() : nullptr,
                                    c.rotate ? tables.sine.data() : nullptr};
  const fedctl::Rng rng(11);
  const std::int64_t rows = c.batch * c.length;
  const Floats q = normals(rows * c.heads * c.width, rng.stream("q"));
  const Floats k = normals(rows * c.kv_heads * c.width, rng.stream("k"));
  const Floats v = normals(rows * c.kv_heads * c.width, rng.stream("v"));
  const Floats direction = normals(rows * c.heads * c.width, rng.stream("direction"));

  Floats out(q.size()), peak(static_cast<std::size_t>(rows * c.heads)), inverse(peak.size());
  loops::attention_forward(shape, q.data(), k.data(), v.data(), out.data(), peak.data(),
                           inverse.data());
  const Doubles expected = attention(shape, widened(q), widened(k), widened(v));
  for (std::size_t i = 0; i < out.size(); ++i) {
    REQUIRE(static_cast<double>(out[i]) == Approx(expected[i]).margin(1e-6).epsilon(1e-5));
  }

  Floats d_q(q.size()), d_k(k.size()), d_v(v.size());
  loops::attention_backward(shape, q.data(), k.data(), v.data(), out.data(), peak.data(),
                            inverse.data(), direction.data(), d_q.data(), d_k.data(), d_v.data());
  const Doubles wide_q = widened(q), wide_k = widened(k), wide_v = widened(v);
  require_gradient(q, d_q, [&](const Doubles& x) {
    return dot(attention(shape, x, wide_k, wide_v), direction);
  });
  require_gradient(k, d_k, [&](const Doubles& x) {
    return dot(attention(shape, wide_q, x, wide_v), direction);
  });
  require_gradient(v, d_v, [&](const Doubles& x) {
    return dot(attention(shape, wide_q, wide_k, x), direction);
  });
}

TEST_CASE("a causal row does not depend on what comes after it", "[learn][torch][loops]") {
  const loops::AttentionShape shape{1, 20, 2, 1, 8, true, nullptr, nullptr};
  const fedctl::Rng rng(3);
  const Floats q = normals(20 * 16, rng.stream("q"));
  Floats k = normals(20 * 8, rng.stream("k")), v = normals(20 * 8, rng.stream("v"));
  Floats before(q.size()), after(q.size()), peak(40), inverse(40);
  loops::attention_forward(shape, q.data(), k.data(), v.data(), before.data(), peak.data(),
                           inverse.data());
  for (std::size_t i = 13 * 8; i < k.size(); ++i) k[i] = v[i] = 1e6F;
  loops::attention_forward(shape, q.data(), k.data(), v.data(), after.data(), peak.data(),
                           inverse.data());
  CHECK(std::equal(before.begin(), before.begin() + 13 * 16, after.begin()));
  CHECK_FALSE(std::equal(before.begin() + 13 * 16, before.end(), after.begin() + 13 * 16));
}

TEST_CASE("RMSNorm and its gradient are those of the formula", "[learn][torch][loops]") {
  const std::int64_t width = GENERATE(1, 7, 16, 37);
  const fedctl::Rng rng(5);
  const Floats x = normals(3 * width, rng.stream("x")), w = normals(width, rng.stream("w"));
  const Floats direction = normals(3 * width, rng.stream("direction"));
  const auto formula = [&](const Doubles& at, const Doubles& weight) {
    Doubles y(at.size());
    const auto columns = static_cast<std::size_t>(width);
    for (std::size_t r = 0; r < 3; ++r) {
      double mean = 0;
      for (std::size_t c = 0; c < columns; ++c) mean += at[r * columns + c] * at[r * columns + c];
      const double root = std::sqrt(mean / static_cast<double>(width) + 0.01);
      for (std::size_t c = 0; c < columns; ++c) {
        y[r * columns + c] = at[r * columns + c] / root * weight[c];
      }
    }
    return y;
  };
  Floats y(x.size()), inverse(3), d_x(x.size()), d_w(w.size());
  loops::rms_norm_forward(3, width, x.data(), w.data(), 0.01F, y.data(), inverse.data());
  const Doubles expected = formula(widened(x), widened(w));
  for (std::size_t i = 0; i < y.size(); ++i) {
    REQUIRE(static_cast<double>(y[i]) == Approx(expected[i]).margin(1e-6));
  }
  loops::rms_norm_backward(3, width, x.data(), w.data(), inverse.data(), direction.data(),
                           d_x.data(), d_w.data());
  require_gradient(x, d_x,
                   [&](const Doubles& at) { return dot(formula(at, widened(w)), direction); });
  require_gradient(w, d_w,
                   [&](const Doubles& at) { return dot(formula(widened(x), at), direction); });
}

TEST_CASE("SwiGLU and its gradient are those of the formula", "[learn][torch][loops]") {
  const std::int64_t count = GENERATE(1, 16, 45);
  const fedctl::Rng rng(6);
  Floats gate = normals(count, rng.stream("gate"));
  const Floats up = normals(count, rng.stream("up")), direction = normals(count, rng.stream("d"));
  gate[0] = -95;  // far into the tail, where the exponential is cut off
  const auto formula = [](const Doubles& g, const Doubles& u) {
    Doubles y(g.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
    return y;
  };
  Floats y(gate.size()), d_gate(gate.size()), d_up(gate.size());
  loops::swiglu_forward(count, gate.data(), up.data(), y.data());
  const Doubles expected = formula(widened(gate), widened(up));
  for (std::size_t i = 0; i < y.size(); ++i) {
    REQUIRE(static_cast<double>(y[i]) == Approx(expected[i]).margin(1e-6));
  }
  loops::swiglu_backward(count, gate.data(), up.data(), direction.data(), d_gate.data(),
                         d_up.data());
  require_gradient(gate, d_gate,
                   [&](const Doubles& at) { return dot(formula(at, widened(up)), direction); });
  require_gradient(up, d_up,
                   [&](const Doubles& at) { return dot(formula(widened(gate), at), direction); });
}

TEST_CASE("cross entropy counts, scores and differentiates its rows", "[learn][torch][loops]") {
  const std::int64_t classes = GENERATE(2, 16, 23);
  const std::int64_t ignore = -100;
  const std::vector<std::int64_t> labels = {0, ignore, classes - 1, 1};
  const Floats logits = normals(4 * classes, fedctl::Rng(8));
  const auto columns = static_cast<std::size_t>(classes);
  const auto formula = [&](const Doubles& at) {
    double loss = 0;
    for (const std::size_t row : {0U, 2U, 3U}) {
      double sum = 0;
      for (std::size_t c = 0; c < columns; ++c) sum += std::exp(at[row * columns + c]);
      loss += std::log(sum) - at[row * columns + static_cast<std::size_t>(labels[row])];
    }
    return loss / 3;
  };
  Floats gradient(logits.size(), 7);
  const auto with = loops::cross_entropy_with_gradient(4, classes, logits.data(), labels.data(),
                                                       ignore, gradient.data());
  const auto without = loops::cross_entropy(4, classes, logits.data(), labels.data(), ignore);
  CHECK(with.loss_sum == without.loss_sum);
  CHECK(with.count == 3);
  CHECK(with.loss_sum / 3 == Approx(formula(widened(logits))).epsilon(1e-6));
  require_gradient(logits, gradient, formula);

  // The label's logit is raised above all others in two of the three rows that count.
  Floats sure = logits;
  sure[0] = sure[4 * columns - columns + 1] = 50;
  sure[3 * columns - 1] = -50;
  CHECK(loops::cross_entropy(4, classes, sure.data(), labels.data(), ignore).correct == 2);
}

TEST_CASE("label smoothing mixes the loss with its mean over the classes",
          "[learn][torch][loops]") {
  const std::int64_t classes = GENERATE(2, 23);
  const std::vector<std::int64_t> labels = {classes - 1, -100, 0};
  const Floats logits = normals(3 * classes, fedctl::Rng(9));
  const auto columns = static_cast<std::size_t>(classes);
  const double smoothing = 0.3;
  const auto formula = [&](const Doubles& at) {
    double loss = 0;
    for (const std::size_t row : {0U, 2U}) {
      double sum = 0, mean = 0;
      for (std::size_t c = 0; c < columns; ++c) {
        sum += std::exp(at[row * columns + c]);
        mean += at[row * columns + c] / static_cast<double>(columns);
      }
      const double label = at[row * columns + static_cast<std::size_t>(labels[row])];
      loss += (1 - smoothing) * (std::log(sum) - label) + smoothing * (std::log(sum) - mean);
    }
    return loss / 2;
  };
  Floats gradient(logits.size());
  const auto result = loops::cross_entropy_with_gradient(3, classes, logits.data(), labels.data(),
                                                         -100, gradient.data(), smoothing);
  CHECK(result.loss_sum / 2 == Approx(formula(widened(logits))).epsilon(1e-6));
  require_gradient(logits, gradient, formula);
}

TEST_CASE("with nothing to predict the loss and its gradient are zero", "[learn][torch][loops]") {
  const std::vector<std::int64_t> labels = {-100, -100};
  const Floats logits = {1, 2, 3, 4};
  Floats gradient(4, 7);
  const auto result =
      loops::cross_entropy_with_gradient(2, 2, logits.data(), labels.data(), -100, gradient.data());
  CHECK(result.count == 0);
  CHECK(result.loss_sum == 0);
  CHECK(gradient == Floats(4, 0.0F));
}

TEST_CASE("logits that are not numbers give a loss that is not one", "[learn][torch][loops]") {
  const std::vector<std::int64_t> labels = {0};
  const Floats logits = {1, std::nanf(""), 3};
  CHECK(std::isnan(loops::cross_entropy(1, 3, logits.data(), labels.data(), -100).loss_sum));
}
