// quadratic_targets: a toy whose optimum is known in closed form. Client k holds one matrix D +
// E_k; its objective is f_k(W) = |W - D - E_k|_F^2 / 2, with D of low rank, |D|_F = 4, sum_k E_k =
// 0 and rms_k |E_k|_F = heterogeneity * |D|_F. The test set is D itself. A single client has E = 0.
#include <algorithm>
#include <cmath>

#include "base/errors.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

constexpr double kNorm = 4;
constexpr std::int64_t kValuesMax = std::int64_t{1} << 28;  // 1 GiB of targets

struct QuadraticTargetsOptions final : config::Options {
  std::int64_t rows = 24, cols = 32, rank = 4, clients = 6, distinct = 0;
  double heterogeneity = 1;
  void fields(config::Fields& fields) override {
    fields.integer("rows", rows, {1, 1 << 14}, "rows of the target matrix");
    fields.integer("cols", cols, {1, 1 << 14}, "columns of the target matrix");
    fields.integer("rank", rank, {1, 1 << 10}, "rank of the common part");
    fields.integer("clients", clients, {1, 1'000'000}, "owners, one example each");
    fields.integer("distinct", distinct, {0, 1'000'000},
                   "matrices among them, dealt out in turn; 0: each its own");
    fields.real("heterogeneity", heterogeneity, {.min = 0, .max = 1e3},
                "size of the clients' own parts against the common one");
  }
};

class Targets final : public Dataset {
 public:
  Targets(std::vector<float> values, std::size_t width, std::size_t size, const char* owner,
          DatasetInfo info)
      : values_(std::move(values)),
        width_(width),
        size_(size),
        owner_(owner),
        info_(std::move(info)) {}
  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return size_; }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t index) const override { return owner_ + std::to_string(index); }
  Batch gather(std::span<const std::size_t> indices) const override {
    Tensor target = Tensor::zeros(
        DType::f32, {static_cast<std::int64_t>(indices.size()), static_cast<std::int64_t>(width_)});
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::size_t at = indices[i] * width_ % values_.size();
      std::copy_n(values_.begin() + static_cast<std::ptrdiff_t>(at), width_,
                  target.f32().begin() + static_cast<std::ptrdiff_t>(i * width_));
    }
    Batch batch;
    batch.emplace("target", std::move(target));
    return batch;
  }

 private:
  std::vector<float> values_;
  std::size_t width_, size_;
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

Source open_targets(const config::Options& given, const Rng& rng) {
  const auto& options = dynamic_cast<const QuadraticTargetsOptions&>(given);
  if (options.rank > std::min(options.rows, options.cols)) {
    throw ConfigError("data.rank is " + std::to_string(options.rank) + ", a matrix of " +
                      std::to_string(options.rows) + " x " + std::to_string(options.cols) +
                      " has at most " + std::to_string(std::min(options.rows, options.cols)));
  }
  const std::int64_t distinct =
      options.distinct > 0 ? std::min(options.distinct, options.clients) : options.clients;
  if (distinct > kValuesMax / (options.rows * options.cols)) {
    throw ConfigError("data.rows x data.cols x data.clients is more than " +
                          std::to_string(kValuesMax) + " values",
                      "lower one of them, or set data.distinct");
  }
  const auto rows = static_cast<std::size_t>(options.rows),
             cols = static_cast<std::size_t>(options.cols);
  const std::size_t width = rows * cols;
  const std::vector<double> common =
      low_rank(rows, cols, static_cast<std::size_t>(options.rank), rng.stream("common"));
  const auto own = differences(static_cast<std::size_t>(distinct), width,
                               options.heterogeneity * kNorm, rng.stream("own"));
  std::vector<float> train, test(common.begin(), common.end());
  train.reserve(own.size() * width);
  for (const auto& row : own) {
    for (std::size_t j = 0; j < width; ++j) train.push_back(static_cast<float>(common[j] + row[j]));
  }
  DatasetInfo info;
  info.task = Task::regress;
  info.input_shape = {static_cast<std::int64_t>(width)};
  return {std::make_unique<Targets>(std::move(train), width,
                                    static_cast<std::size_t>(options.clients), "client ", info),
          std::make_unique<Targets>(std::move(test), width, 1, "test ", info)};
}

}  // namespace

DatasetEntry quadratic_targets();
DatasetEntry quadratic_targets() {
  return {{"quadratic_targets", "one target matrix a client; embedded, with a known optimum", "",
           [] { return std::make_unique<QuadraticTargetsOptions>(); }},
          open_targets};
}

}  // namespace fedctl::data
