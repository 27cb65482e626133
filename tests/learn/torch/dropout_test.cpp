// Dropout in the updates of lora and dora.
#include <numeric>

#include "learn/torch/weights.hpp"
#include "learn/train.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;
using test::make;

namespace {

// Example i is that of test::image_batch() with the seed i.
class Images final : public data::Dataset {
 public:
  explicit Images(data::DatasetInfo info) : info_(std::move(info)) {}
  const data::DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return 12; }
  std::int64_t label(std::size_t index) const override {
    return test::image_batch(info_, 1, index).at("labels").i64()[0];
  }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t) const override { return ""; }
  data::Batch gather(std::span<const std::size_t> indices) const override {
    data::Batch all = test::image_batch(info_, static_cast<std::int64_t>(indices.size()));
    for (std::size_t i = 0; i < indices.size(); ++i) {
      for (const auto& [name, tensor] : test::image_batch(info_, 1, indices[i])) {
        std::ranges::copy(tensor.bytes, all.at(name).bytes.begin() +
                                            static_cast<std::ptrdiff_t>(i * tensor.bytes.size()));
      }
    }
    return all;
  }

 private:
  data::DatasetInfo info_;
};

}  // namespace

TEST_CASE("dropout acts in training only and repeats itself", "[learn][torch][adapters]") {
  const std::string adapter = GENERATE("lora", "dora");
  learn::LearnerSpec spec = test::spec("vit", adapter, test::images());
  const auto without = make(spec);
  test::lora(spec).dropout = 0.4;
  const auto learner = make(spec);
  test::disturb(*learner);
  std::ranges::copy(learner->weights(), without->weights().begin());
  const data::Batch batch = test::batch_for(spec, 4);
  CHECK(learner->evaluate(batch) == without->evaluate(batch));
  CHECK(test::copy(learner->logits(batch).f32()) == test::copy(without->logits(batch).f32()));

  const auto pass = [&](learn::Learner& l) {
    l.loss_and_gradient(batch);
    return test::copy(l.gradient());
  };
  learner->set_noise(Rng(1));
  const std::vector<float> first = pass(*learner), second = pass(*learner);
  CHECK(first != second);
  CHECK(first != pass(*without));
  learner->set_noise(Rng(2));
  CHECK(pass(*learner) != first);
  learner->evaluate(batch);
  const auto other = make(spec);
  std::ranges::copy(learner->weights(), other->weights().begin());
  other->set_noise(Rng(1));
  CHECK(pass(*other) == first);
  CHECK(pass(*other) == second);
  CHECK(learner->evaluate(batch) == without->evaluate(batch));
}

TEST_CASE("the mean over masks is the pass without dropout", "[learn][torch][adapters]") {
  // Small updates, so that the loss is nearly linear in the mask.
  learn::LearnerSpec spec = test::spec("mlp", "lora", test::images({1, 1, 6}));
  dynamic_cast<learn::MlpOptions&>(*spec.model.options).layers = 1;
  const auto without = make(spec);
  test::lora(spec).dropout = 0.25;
  const auto learner = make(spec);
  test::disturb(*learner, 0.02);
  std::ranges::copy(learner->weights(), without->weights().begin());
  const data::Batch batch = test::batch_for(spec, 16);
  const double expected = without->loss(batch);
  learner->set_noise(Rng(3));
  double mean = 0;
  for (int i = 0; i < 400; ++i) mean += learner->loss_and_gradient(batch) / 400;
  CHECK(mean == Approx(expected).epsilon(2e-3));
}

TEST_CASE("a model with dropout cannot be run in parts", "[learn][torch][adapters]") {
  learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  test::lora(spec).dropout = 0.1;
  CHECK_THROWS_WITH(make(spec)->forward("embed", test::batch_for(spec, 1)),
                    Contains("adapter.dropout"));
}

TEST_CASE("training with dropout depends on its stream alone", "[learn][torch][dropout]") {
  learn::LearnerSpec spec = test::spec("mlp", "lora", test::info_for("mlp"));
  const Images data(spec.data);
  std::vector<std::size_t> all(data.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  learn::TrainOptions options;
  options.batch_size = 5;
  options.epochs = 2;
  const auto trained = [&](learn::Learner& learner) {
    learn::train(learner, data, all, options, nullptr, Rng(4), {});
    return test::copy(learner.weights());
  };
  const std::vector<float> without = trained(*make(spec));
  test::lora(spec).dropout = 0.5;
  const auto fresh = make(spec), used = make(spec);
  const std::vector<float> start = test::copy(used->weights());
  used->loss_and_gradient(data.gather(all));
  trained(*used);
  std::ranges::copy(start, used->weights().begin());
  const std::vector<float> expected = trained(*fresh);
  CHECK(trained(*used) == expected);
  CHECK(expected != without);
}
