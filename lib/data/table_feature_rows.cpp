// Rows of numbers and words as inputs. Those of tables of up to 256 MiB of inputs are kept; a row
// of a larger one is read again each time it is needed.
#include <algorithm>

#include "data/detail/table_datasets.hpp"

namespace fedctl::data {
namespace {

constexpr std::size_t kKeptBytesMax = std::size_t{256} << 20;

class FeatureTable final : public Dataset {
 public:
  FeatureTable(std::shared_ptr<const Features> features, TableRows rows, DatasetInfo info)
      : features_(std::move(features)), rows_(std::move(rows)), info_(std::move(info)) {
    const std::size_t width = features_->width();
    if (rows_.size() > kKeptBytesMax / sizeof(float) / width) return;
    std::vector<float> kept(rows_.size() * width);
    for (std::size_t row = 0; row < rows_.size(); ++row)
      write(row, std::span(kept).subspan(row * width, width));
    kept_ = std::move(kept);
  }

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return rows_.size(); }
  std::int64_t label(std::size_t index) const override { return rows_.label(index); }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t index) const override { return rows_.owner(index); }

  Batch gather(std::span<const std::size_t> indices) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    const std::size_t width = features_->width();
    Tensor features = Tensor::zeros(DType::f32, {n, static_cast<std::int64_t>(width)});
    Tensor labels = Tensor::zeros(DType::i64, {n});
    for (std::size_t i = 0; i < indices.size(); ++i) {
      write(indices[i], features.f32().subspan(i * width, width));
      labels.i64()[i] = rows_.label(indices[i]);
    }
    Batch batch;
    batch.emplace("features", std::move(features));
    batch.emplace("labels", std::move(labels));
    return batch;
  }

 private:
  void write(std::size_t row, std::span<float> out) const {
    if (!kept_.empty()) {
      std::ranges::copy(std::span(kept_).subspan(row * out.size(), out.size()), out.begin());
      return;
    }
    Record record;
    rows_.read(row, record);
    features_->write(record, out);
  }

  std::shared_ptr<const Features> features_;
  TableRows rows_;
  DatasetInfo info_;
  std::vector<float> kept_;  // row by row
};

}  // namespace

std::unique_ptr<Dataset> feature_table(std::shared_ptr<const Features> features, TableRows rows,
                                       DatasetInfo info) {
  return std::make_unique<FeatureTable>(std::move(features), std::move(rows), std::move(info));
}

}  // namespace fedctl::data
