// Transformers written out one number at a time, in double, for tests of the text families.
#pragma once

#include <cmath>

#include "learn/torch/model_files.hpp"

namespace fedctl::test {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

class Reference {
 public:
  explicit Reference(const Values& values) : values_(values) {}

  Row row(const std::string& name, std::size_t index) const {
    const auto& [shape, flat] = values_.at(name);
    const auto width = static_cast<std::ptrdiff_t>(shape.back());
    const auto from = flat.begin() + static_cast<std::ptrdiff_t>(index) * width;
    return {from, from + width};
  }
  // Weights stored [out, in].
  Row linear(const std::string& module, const Row& x) const {
    Row y = row(module + ".bias", 0);
    const std::vector<float>& flat = values_.at(module + ".weight").second;
    for (std::size_t i = 0; i < flat.size(); ++i) {
      y[i / x.size()] += static_cast<double>(flat[i]) * x[i % x.size()];
    }
    return y;
  }
  // Weights stored [in, out].
  Row conv1d(const std::string& module, const Row& x) const {
    Row y = row(module + ".bias", 0);
    const std::vector<float>& flat = values_.at(module + ".weight").second;
    for (std::size_t i = 0; i < flat.size(); ++i) {
      y[i % y.size()] += static_cast<double>(flat[i]) * x[i / y.size()];
    }
    return y;
  }
  Row norm(const std::string& module, const Row& x, double eps) const {
    const auto width = static_cast<double>(x.size());
    double mean = 0, variance = 0;
    for (const double value : x) mean += value / width;
    for (const double value : x) variance += (value - mean) * (value - mean) / width;
    Row y = row(module + ".bias", 0);
    const Row weight = row(module + ".weight", 0);
    for (std::size_t i = 0; i < x.size(); ++i) {
      y[i] += weight[i] * (x[i] - mean) / std::sqrt(variance + eps);
    }
    return y;
  }

 private:
  const Values& values_;
};

inline void add(Row& x, const Row& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

// What position i takes from all positions, or from those up to its own.
inline Rows attend(const Rows& queries, const Rows& keys, const Rows& values, std::size_t heads,
                   bool causal) {
  Rows mixed;
  const std::size_t width = queries.front().size() / heads;
  for (std::size_t i = 0; i < queries.size(); ++i) {
    mixed.emplace_back(queries[i].size());
    const std::size_t seen = causal ? i + 1 : keys.size();
    for (std::size_t first = 0; first < queries[i].size(); first += width) {
      Row weights;
      double sum = 0;
      for (std::size_t j = 0; j < seen; ++j) {
        double dot = 0;
        for (std::size_t d = first; d < first + width; ++d) dot += queries[i][d] * keys[j][d];
        weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(width))));
        sum += weights.back();
      }
      for (std::size_t j = 0; j < seen; ++j) {
        for (std::size_t d = first; d < first + width; ++d) {
          mixed.back()[d] += weights[j] / sum * values[j][d];
        }
      }
    }
  }
  return mixed;
}

// Values of these names and shapes; norms' weights lie around one.
inline Values values_of(const std::vector<std::pair<std::string, Shape>>& shapes) {
  Values values;
  for (const auto& [name, shape] : shapes) {
    values[name] = {shape, random_values(element_count(shape), Rng(3).stream(name), 0.4)};
    if (!name.ends_with("ln_1.weight") && !name.ends_with("ln_2.weight") &&
        !name.ends_with("ln_f.weight") && !name.ends_with("LayerNorm.weight")) {
      continue;
    }
    for (float& value : values[name].second) value += 1;
  }
  return values;
}

// The trained rows of the learner's soft prompt.
inline Rows prompt_of(learn::Learner& learner) {
  const Block& block = learner.layout().block("prompt_embeddings");
  const auto flat = learner.weights().subspan(block.offset, block.count);
  const auto width = static_cast<std::size_t>(block.shape[1]);
  Rows rows;
  for (std::size_t i = 0; i < flat.size(); i += width) {
    const auto row = flat.subspan(i, width);
    rows.emplace_back(row.begin(), row.end());
  }
  return rows;
}

}  // namespace fedctl::test
