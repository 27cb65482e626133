// quadratic_targets: a toy whose optimum is known in closed form. Client k holds one matrix D +
// E_k; its objective is f_k(W) = |W - D - E_k|_F^2 / 2, with D of low rank, |D|_F = 4, sum_k E_k =
// 0 and rms_k |E_k|_F = heterogeneity * |D|_F. The test set is D itself. A single client has E = 0.
//
// With `curvature` f_k(w) = sum_j a_kj (w_j - b_kj)^2 / 2, b_k = D + E_k, a_kj uniform between the
// bounds: batches hold "curvature" beside "target", and the test set is the mean of the f_k up to a
// constant, so its loss is 0 at the optimum. With `noise` a client has some examples, whose
// gradients are those of f_k plus normal noise of that standard deviation that adds up to zero.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/errors.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

constexpr double kNorm = 4;
constexpr std::int64_t kValuesMax = std::int64_t{1} << 28;  // 1 GiB of targets
constexpr double kCurvatureMax = 1e6;
constexpr std::int64_t kNoisyExamples = 64;  // of a client, unless data.examples says otherwise

struct QuadraticTargetsOptions final : config::Options {
  std::int64_t rows = 24, cols = 32, rank = 4, clients = 6, distinct = 0;
  std::int64_t examples = 0;
  double heterogeneity = 1, noise = 0;
  std::vector<std::string> curvature;  // none, or [low, high]
  void fields(config::Fields& fields) override {
    fields.integer("rows", rows, {1, 1 << 14}, "rows of the target matrix");
    fields.integer("cols", cols, {1, 1 << 14}, "columns of the target matrix");
    fields.integer("rank", rank, {1, 1 << 10}, "rank of the common part");
    fields.integer("clients", clients, {1, 1'000'000}, "owners, one example each");
    fields.integer("distinct", distinct, {0, 1'000'000},
                   "matrices among them, dealt out in turn; 0: each its own");
    fields.real("heterogeneity", heterogeneity, {.min = 0, .max = 1e3},
                "size of the clients' own parts against the common one");
    fields.texts("curvature", curvature,
                 "[low, high]: of every client and coordinate, uniform, above 0; none: all 1");
    fields.real("noise", noise, {.min = 0, .max = 1e6},
                "standard deviation of an example's gradient around its client's, a coordinate");
    fields.integer("examples", examples, {0, 1'000'000},
                   "of each owner; 0: one, or 64 with noise");
  }
  std::int64_t examples_of_one() const {
    return examples > 0 ? examples : noise > 0 ? kNoisyExamples : 1;
  }
};

struct Bounds {
  double low = 1, high = 1;
};

// Throws ConfigError on anything but two numbers in order.
Bounds bounds_of(const std::vector<std::string>& words) {
  if (words.empty()) return {};
  const auto number = [](const std::string& word) {
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    return error == std::errc() && end == word.data() + word.size() ? value : -1;
  };
  const Bounds bounds{number(words.front()), number(words.back())};
  const bool usable = words.size() == 2 && bounds.low > 0 && bounds.low <= bounds.high &&
                      bounds.high <= kCurvatureMax;
  if (usable) return bounds;
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  throw ConfigError("data.curvature is [" + text +
                        "], must be two numbers in order, above 0 and at most 1e6",
                    "curvature: [1, 7]");
}

// What the clients' objectives are made of: for each of `distinct` owners the targets of its
// examples, and its curvatures if they are not all 1.
struct Problem {
  std::vector<float> targets, curvature;  // rows of `width`
  std::size_t width = 0, examples = 1;    // of one owner
  std::size_t distinct() const { return targets.size() / width / examples; }
};

class Targets final : public Dataset {
 public:
  Targets(Problem problem, std::size_t owners, const char* owner, DatasetInfo info)
      : problem_(std::move(problem)), owners_(owners), owner_(owner), info_(std::move(info)) {}
  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return owners_ * problem_.examples; }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t index) const override {
    return owner_ + std::to_string(index / problem_.examples);
  }
  Batch gather(std::span<const std::size_t> indices) const override {
    const Shape shape = {static_cast<std::int64_t>(indices.size()),
                         static_cast<std::int64_t>(problem_.width)};
    Batch batch;
    Tensor target = Tensor::zeros(DType::f32, shape), curvature;
    if (!problem_.curvature.empty()) curvature = Tensor::zeros(DType::f32, shape);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::size_t owner = indices[i] / problem_.examples % problem_.distinct();
      const std::size_t example = indices[i] % problem_.examples;
      copy_row(problem_.targets, owner * problem_.examples + example, target, i);
      if (!problem_.curvature.empty()) copy_row(problem_.curvature, owner, curvature, i);
    }
    batch.emplace("target", std::move(target));
    if (!problem_.curvature.empty()) batch.emplace("curvature", std::move(curvature));
    return batch;
  }

 private:
  void copy_row(const std::vector<float>& from, std::size_t row, Tensor& to, std::size_t at) const {
    const auto width = static_cast<std::ptrdiff_t>(problem_.width);
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(row) * width, width,
                to.f32().begin() + static_cast<std::ptrdiff_t>(at) * width);
  }

  Problem problem_;
  std::size_t owners_;
  std::string owner_;
  DatasetInfo info_;
};

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

std::vector<double> low_rank(std::size_t rows, std::size_t cols, std::size_t rank, Rng rng) {
  std::vector<double> left(rows * rank), right(rank * cols), product(rows * cols);
  for (double& value : left) value = rng.normal();
  for (double& value : right) value = rng.normal();
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t k = 0; k < rank; ++k) {
      for (std::size_t j = 0; j < cols; ++j)
        product[i * cols + j] += left[i * rank + k] * right[k * cols + j];
    }
  }
  const double scale = kNorm / norm(product);
  for (double& value : product) value *= scale;
  return product;
}

// `clients` rows that sum to zero, with the root of the mean squared row norm at `size`.
std::vector<std::vector<double>> differences(std::size_t clients, std::size_t width, double size,
                                             Rng rng) {
  std::vector<std::vector<double>> rows(clients, std::vector<double>(width));
  std::vector<double> mean(width);
  for (auto& row : rows) {
    for (std::size_t j = 0; j < width; ++j)
      mean[j] += (row[j] = rng.normal()) / static_cast<double>(clients);
  }
  double squares = 0;
  for (auto& row : rows) {
    for (std::size_t j = 0; j < width; ++j) {
      row[j] -= mean[j];
      squares += row[j] * row[j];
    }
  }
  const double scale = squares > 0 ? size / std::sqrt(squares / static_cast<double>(clients)) : 0;
  for (auto& row : rows) {
    for (double& value : row) value *= scale;
  }
  return rows;
}

// The row of a vector of rows.
std::span<const float> row_of(const std::vector<float>& rows, std::size_t width, std::size_t at) {
  return std::span(rows).subspan(at * width, width);
}

// The mean of all owners' objectives, up to a constant: one with the weighted mean of the optima.
Problem mean_of(const Problem& clean, std::size_t owners) {
  const std::size_t width = clean.width;
  Problem mean{std::vector<float>(width), std::vector<float>(width), width};
  std::vector<double> weights(width), sums(width);
  for (std::size_t k = 0; k < owners; ++k) {
    const auto curvature = row_of(clean.curvature, width, k % clean.distinct());
    const auto optimum = row_of(clean.targets, width, k % clean.distinct());
    for (std::size_t j = 0; j < width; ++j) {
      weights[j] += curvature[j];
      sums[j] += static_cast<double>(curvature[j]) * optimum[j];
    }
  }
  for (std::size_t j = 0; j < width; ++j) {
    mean.targets[j] = static_cast<float>(sums[j] / weights[j]);
    mean.curvature[j] = static_cast<float>(weights[j] / static_cast<double>(owners));
  }
  return mean;
}

// Every owner's one example becomes several, whose gradients have noise that adds up to zero.
Problem with_noise(const Problem& clean, std::size_t examples, double noise, const Rng& rng) {
  Problem noisy{{}, clean.curvature, clean.width, examples};
  noisy.targets.reserve(clean.targets.size() * examples);
  for (std::size_t k = 0; k < clean.distinct(); ++k) {
    const auto rows = differences(examples, clean.width, noise * std::sqrt(clean.width),
                                  rng.stream("noise", static_cast<std::int64_t>(k)));
    const auto optimum = row_of(clean.targets, clean.width, k);
    for (const auto& row : rows) {
      for (std::size_t j = 0; j < clean.width; ++j) {
        const double curvature =
            clean.curvature.empty() ? 1 : row_of(clean.curvature, clean.width, k)[j];
        noisy.targets.push_back(static_cast<float>(optimum[j] - row[j] / curvature));
      }
    }
  }
  return noisy;
}

void check_sizes(const QuadraticTargetsOptions& options, std::int64_t distinct) {
  if (options.rank > std::min(options.rows, options.cols)) {
    throw ConfigError("data.rank is " + std::to_string(options.rank) + ", a matrix of " +
                      std::to_string(options.rows) + " x " + std::to_string(options.cols) +
                      " has at most " + std::to_string(std::min(options.rows, options.cols)));
  }
  const std::int64_t examples = options.examples_of_one();
  if (options.noise > 0 && examples < 2) {
    throw ConfigError("data.noise is above 0 and data.examples is 1: noise that adds up to zero",
                      "leave data.examples out, or set it to at least 2");
  }
  if (distinct > kValuesMax / (options.rows * options.cols) / examples) {
    throw ConfigError("data.rows x data.cols x data.clients x data.examples is more than " +
                          std::to_string(kValuesMax) + " values",
                      "lower one of them, or set data.distinct");
  }
}

Source open_targets(const config::Options& given, const Rng& rng) {
  const auto& options = dynamic_cast<const QuadraticTargetsOptions&>(given);
  const std::int64_t distinct =
      options.distinct > 0 ? std::min(options.distinct, options.clients) : options.clients;
  check_sizes(options, distinct);
  const Bounds bounds = bounds_of(options.curvature);
  const auto rows = static_cast<std::size_t>(options.rows),
             cols = static_cast<std::size_t>(options.cols);
  const std::size_t width = rows * cols;
  const std::vector<double> common =
      low_rank(rows, cols, static_cast<std::size_t>(options.rank), rng.stream("common"));
  const auto own = differences(static_cast<std::size_t>(distinct), width,
                               options.heterogeneity * kNorm, rng.stream("own"));
  Problem train{{}, {}, width}, test{{common.begin(), common.end()}, {}, width};
  train.targets.reserve(own.size() * width);
  for (const auto& row : own) {
    for (std::size_t j = 0; j < width; ++j) {
      train.targets.push_back(static_cast<float>(common[j] + row[j]));
    }
  }
  const auto owners = static_cast<std::size_t>(options.clients);
  if (!options.curvature.empty()) {
    Rng draws = rng.stream("curvature");
    train.curvature.resize(train.targets.size());
    for (float& value : train.curvature) {
      value = static_cast<float>(draws.uniform(bounds.low, bounds.high));
    }
    test = mean_of(train, owners);
  }
  const auto examples = static_cast<std::size_t>(options.examples_of_one());
  if (examples > 1) train = with_noise(train, examples, options.noise, rng);
  DatasetInfo info;
  info.task = Task::regress;
  info.input_shape = {static_cast<std::int64_t>(width)};
  return {std::make_unique<Targets>(std::move(train), owners, "client ", info),
          std::make_unique<Targets>(std::move(test), 1, "test ", info)};
}

}  // namespace

DatasetEntry quadratic_targets();
DatasetEntry quadratic_targets() {
  return {{"quadratic_targets", "one target matrix a client; embedded, with a known optimum", "",
           [] { return std::make_unique<QuadraticTargetsOptions>(); }},
          open_targets};
}

}  // namespace fedctl::data
