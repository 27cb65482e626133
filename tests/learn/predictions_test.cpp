// Predictions gathered by a pool, on a classifier made of a table.
#include <catch2/catch.hpp>
#include <numeric>

#include "base/rng.hpp"
#include "learn/pool.hpp"

using namespace fedctl;
using namespace fedctl::learn;

namespace {

constexpr std::int64_t kClasses = 3;

// Examples whose features are the logits.
class Table final : public data::Dataset {
 public:
  explicit Table(std::size_t count) {
    info_.classes = {"a", "b", "c"};
    info_.input_shape = {kClasses};
    Rng rng(5);
    for (std::size_t i = 0; i < count; ++i) {
      labels_.push_back(static_cast<std::int64_t>(rng.below(kClasses)));
      for (std::int64_t c = 0; c < kClasses; ++c) {
        rows_.push_back(static_cast<float>(rng.normal()) + (labels_.back() == c ? 0.5F : 0));
      }
    }
  }
  const data::DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return labels_.size(); }
  std::int64_t label(std::size_t index) const override { return labels_[index]; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t) const override { return ""; }
  data::Batch gather(std::span<const std::size_t> indices) const override {
    std::vector<float> rows;
    std::vector<std::int64_t> labels;
    for (const std::size_t index : indices) {
      labels.push_back(labels_[index]);
      rows.insert(rows.end(), rows_.begin() + static_cast<std::ptrdiff_t>(index * kClasses),
                  rows_.begin() + static_cast<std::ptrdiff_t>((index + 1) * kClasses));
    }
    const auto count = static_cast<std::int64_t>(indices.size());
    return {{"features", Tensor::of(rows, {count, kClasses})},
            {"labels", Tensor::of(std::span<const std::int64_t>(labels), {count})}};
  }
  std::vector<float> rows_;
  std::vector<std::int64_t> labels_;

 private:
  data::DatasetInfo info_;
};

// Its logits are the features times the one weight.
class Scale final : public Learner {
 public:
  explicit Scale(std::int64_t outputs) : outputs_(outputs) { layout_.add("w", "base", {1}); }
  const Layout& layout() const override { return layout_; }
  std::span<float> weights() override { return std::span(&weight_, 1); }
  std::span<float> gradient() override { return std::span(&gradient_, 1); }
  double loss(const data::Batch&) override { return 0; }
  double loss_and_gradient(const data::Batch&) override { return 0; }
  Scores evaluate(const data::Batch& batch) override {
    return {.loss_sum = 0, .correct = 0, .count = batch.at("labels").shape[0]};
  }
  Tensor logits(const data::Batch& batch) override {
    Tensor out = batch.at("features");
    for (float& value : out.f32()) value *= weight_;
    out.shape[1] = outputs_;
    return out;
  }
  AdapterFiles adapter_files() override { return {}; }
  void load_adapter(const std::string&) override {}
  void save_merged(const std::string&, const std::map<std::string, std::string>&,
                   data::Storage) override {}
  std::string base_digest() const override { return ""; }
  std::size_t base_parameters() const override { return 0; }

 private:
  std::int64_t outputs_;
  Layout layout_;
  float weight_ = 0, gradient_ = 0;
};

struct Factory final : LearnerFactory {
  explicit Factory(std::int64_t outputs_) : outputs(outputs_) {}
  std::unique_ptr<Learner> make() override { return std::make_unique<Scale>(outputs); }
  std::int64_t outputs;
};

}  // namespace

TEST_CASE("predictions stand in the order of the examples on any number of threads",
          "[learn][metrics][pool]") {
  const Table table(101);
  std::vector<std::size_t> indices(table.size());
  std::iota(indices.rbegin(), indices.rend(), std::size_t{0});  // an order of its own
  const std::vector<float> weights = {2};
  for (const std::size_t threads : {1U, 3U}) {
    LearnerPool pool(std::make_unique<Factory>(kClasses), threads);
    Predictions predictions;
    CHECK(evaluate(pool, weights, table, indices, 7, &predictions).count == 101);
    REQUIRE(predictions.labels.size() == 101);
    CHECK(predictions.classes == kClasses);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      CHECK(predictions.labels[i] == table.labels_[indices[i]]);
      CHECK(predictions.logits[i * 3 + 2] == 2 * table.rows_[indices[i] * 3 + 2]);
    }
    CHECK(auc(predictions) > 0.5);
  }
}

TEST_CASE("a model with other outputs than the data have classes has no metrics",
          "[learn][metrics][pool]") {
  const Table table(4);
  LearnerPool pool(std::make_unique<Factory>(kClasses + 1), 1);
  Predictions predictions;
  CHECK_THROWS_AS(
      evaluate(pool, std::vector<float>{1}, table, std::vector<std::size_t>{0, 1}, 2, &predictions),
      DataError);
}
