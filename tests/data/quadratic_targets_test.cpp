#include <catch2/catch.hpp>
#include <cmath>

#include "data/plugins.hpp"

using namespace fedctl;
using test::all_of;
using test::open_data;

namespace {

using Matrix = std::vector<double>;  // row-major

Matrix targets_of(const data::Dataset& dataset) {
  const Tensor target = dataset.gather(all_of(dataset)).at("target");
  return {target.f32().begin(), target.f32().end()};
}

double norm(const Matrix& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

// What is left of the matrix after `steps` of Gaussian elimination with full pivoting: zero (up to
// round-off) exactly if its rank is at most `steps`.
double rest_after(Matrix matrix, std::size_t rows, std::size_t cols, std::size_t steps) {
  for (std::size_t step = 0; step < steps; ++step) {
    std::size_t pivot = 0;
    for (std::size_t i = 0; i < matrix.size(); ++i) {
      if (std::abs(matrix[i]) > std::abs(matrix[pivot])) pivot = i;
    }
    const std::size_t row = pivot / cols, col = pivot % cols;
    const Matrix before = matrix;
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t j = 0; j < cols; ++j) {
        matrix[i * cols + j] -= before[i * cols + col] * before[row * cols + j] / before[pivot];
      }
    }
  }
  return norm(matrix);
}

}  // namespace

TEST_CASE("quadratic targets are D + E_k, with the identities of the sheet",
          "[data][quadratic_targets]") {
  const double heterogeneity = GENERATE(0.0, 0.25, 1.0, 3.0);
  const data::Source source =
      open_data("{kind: quadratic_targets, heterogeneity: " + std::to_string(heterogeneity) + "}");
  const std::size_t width = 24 * 32, clients = 6;
  REQUIRE(source.train->size() == clients);
  REQUIRE(source.test->size() == 1);
  const Matrix common = targets_of(*source.test), all = targets_of(*source.train);
  CHECK(norm(common) == Approx(4).epsilon(1e-6));
  CHECK(rest_after(common, 24, 32, 3) > 0.05);
  CHECK(rest_after(common, 24, 32, 4) < 1e-5);
  Matrix sum(width);
  double squares = 0;
  for (std::size_t k = 0; k < clients; ++k) {
    for (std::size_t j = 0; j < width; ++j) {
      const double own = all[k * width + j] - common[j];
      sum[j] += own;
      squares += own * own;
    }
  }
  CHECK(norm(sum) < 1e-5 * (1 + heterogeneity));
  CHECK(std::sqrt(squares / clients) == Approx(4 * heterogeneity).epsilon(1e-6).margin(1e-12));
}

TEST_CASE("quadratic targets describe themselves", "[data][quadratic_targets]") {
  const data::Source source =
      open_data("{kind: quadratic_targets, rows: 3, cols: 5, rank: 2, clients: 4}");
  CHECK(source.train->info().task == data::Task::regress);
  CHECK(source.train->info().input_shape == Shape{15});
  CHECK(source.train->info().classes.empty());
  const std::vector<std::size_t> some = {3, 1};
  CHECK(source.train->gather(some).at("target").shape == Shape{2, 15});
  for (std::size_t k = 0; k < 4; ++k) {
    CHECK(source.train->field(k) == "client " + std::to_string(k));
    CHECK(source.train->label(k) == 0);
    CHECK(source.train->length(k) == 1);
  }
}

TEST_CASE("quadratic targets depend on nothing but the stream", "[data][quadratic_targets]") {
  const data::Source a = open_data("quadratic_targets"), b = open_data("quadratic_targets");
  const data::Source c = open_data("quadratic_targets", 2);
  CHECK(targets_of(*a.train) == targets_of(*b.train));
  CHECK(targets_of(*a.train) != targets_of(*c.train));
  // The common part stays when only the clients change.
  const data::Source more = open_data("{kind: quadratic_targets, clients: 9, heterogeneity: 2}");
  CHECK(targets_of(*a.test) == targets_of(*more.test));
}

TEST_CASE("a single client's target is the common one", "[data][quadratic_targets]") {
  const data::Source source = open_data("{kind: quadratic_targets, clients: 1}");
  CHECK(targets_of(*source.train) == targets_of(*source.test));
}

TEST_CASE("with curvature the test set is the mean of the clients' objectives",
          "[data][quadratic_targets]") {
  const data::Source source = open_data(
      "{kind: quadratic_targets, rows: 3, cols: 5, rank: 2, clients: 7, distinct: 3, curvature: [1, "
      "7]}");
  const auto row = [](const data::Dataset& set, const char* name, std::size_t at) {
    const std::vector<std::size_t> one = {at};
    const Tensor tensor = set.gather(one).at(name);
    return Matrix(tensor.f32().begin(), tensor.f32().end());
  };
  double low = 9, high = 0;
  for (std::size_t j = 0; j < 15; ++j) {
    // The derivative of the mean is 0 at the test target, its slope there the test curvature.
    const double optimum = row(*source.test, "target", 0)[j];
    double slope = 0, curvature = 0;
    for (std::size_t k = 0; k < 7; ++k) {
      const double a = row(*source.train, "curvature", k)[j];
      CHECK(a == row(*source.train, "curvature", k % 3)[j]);
      slope += a * (optimum - row(*source.train, "target", k)[j]) / 7;
      curvature += a / 7;
      low = std::min(low, a);
      high = std::max(high, a);
    }
    CHECK(slope == Approx(0).margin(1e-5));
    CHECK(row(*source.test, "curvature", 0)[j] == Approx(curvature).epsilon(1e-6));
  }
  CHECK((low >= 1 && low < 3 && high > 5 && high <= 7));
}

TEST_CASE("noise has its size and leaves a client's optimum", "[data][quadratic_targets]") {
  const std::string problem = "kind: quadratic_targets, rows: 6, cols: 5, clients: 4, rank: 2, ";
  const data::Source clean = open_data("{" + problem + "curvature: [2, 3]}");
  const data::Source noisy = open_data("{" + problem + "curvature: [2, 3], noise: 5}");
  REQUIRE(noisy.train->size() == 4 * 64);
  REQUIRE(noisy.test->size() == 1);
  CHECK(targets_of(*noisy.test) == targets_of(*clean.test));
  const std::vector<std::size_t> all = all_of(*noisy.train);
  const data::Batch batch = noisy.train->gather(all), whole = clean.train->gather(all_of(*clean.train));
  double squares = 0;
  for (std::size_t k = 0; k < 4; ++k) {
    for (std::size_t j = 0; j < 30; ++j) {
      const double a = whole.at("curvature").f32()[k * 30 + j];
      double sum = 0;
      for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t at = (k * 64 + i) * 30 + j;
        CHECK(noisy.train->field(k * 64 + i) == "client " + std::to_string(k));
        CHECK(batch.at("curvature").f32()[at] == Approx(a));
        // What the slope of the example has beside that of the client, at any point.
        const double noise =
            a * (static_cast<double>(whole.at("target").f32()[k * 30 + j]) - batch.at("target").f32()[at]);
        sum += noise;
        squares += noise * noise;
      }
      CHECK(sum == Approx(0).margin(1e-3));
    }
  }
  CHECK(std::sqrt(squares / (4 * 30 * 64)) == Approx(5).epsilon(1e-3));
}

TEST_CASE("curvatures that are none are refused", "[data][quadratic_targets]") {
  for (const char* wrong : {"[1]", "[0, 1]", "[-1, 1]", "[2, 1]", "[1, 2, 3]", "[1, 1e7]",
                            "[1, x]", "[1, 2x]", "[nan, 2]", "[1, inf]"}) {
    INFO(wrong);
    CHECK_THROWS_WITH(
        open_data(std::string("{kind: quadratic_targets, curvature: ") + wrong + "}"),
        Catch::StartsWith("data.curvature is [") && Catch::Contains("above 0 and at most 1e6"));
  }
  CHECK_THROWS_WITH(open_data("{kind: quadratic_targets, noise: 1, examples: 1}"),
                    Catch::Contains("data.examples is 1"));
}

TEST_CASE("impossible quadratic targets are refused", "[data][quadratic_targets]") {
  CHECK_THROWS_WITH(open_data("{kind: quadratic_targets, rows: 3, cols: 5, rank: 4}"),
                    Catch::Contains("data.rank is 4") && Catch::Contains("at most 3"));
  CHECK_THROWS_AS(open_data("{kind: quadratic_targets, rows: 16384, cols: 16384, clients: 2}"),
                  ConfigError);
}
