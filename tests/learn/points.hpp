// Vectors as a dataset: what the quadratic toy learns from.
#pragma once

#include <algorithm>
#include <vector>

#include "data/dataset.hpp"

namespace fedctl::test {

class Points final : public data::Dataset {
 public:
  // `lengths` groups the points as token counts group texts; all equal if empty.
  Points(std::vector<std::vector<float>> points, std::vector<std::size_t> lengths = {})
      : points_(std::move(points)), lengths_(std::move(lengths)) {
    info_.task = data::Task::regress;
    info_.input_shape = {static_cast<std::int64_t>(points_.front().size())};
  }

  const data::DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return points_.size(); }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t index) const override {
    return lengths_.empty() ? 1 : lengths_[index];
  }
  std::string field(std::size_t) const override { return ""; }
  data::Batch gather(std::span<const std::size_t> indices) const override {
    const auto count = static_cast<std::int64_t>(indices.size());
    Tensor target = Tensor::zeros(DType::f32, {count, info_.input_shape[0]});
    auto row = target.f32().begin();
    for (const std::size_t index : indices) {
      row = std::copy(points_[index].begin(), points_[index].end(), row);
    }
    return {{"target", target}};
  }

 private:
  std::vector<std::vector<float>> points_;
  std::vector<std::size_t> lengths_;
  data::DatasetInfo info_;
};

}  // namespace fedctl::test
