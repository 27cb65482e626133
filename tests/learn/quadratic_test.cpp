#include "learn/quadratic.hpp"

#include <catch2/catch.hpp>
#include <filesystem>

#include "base/errors.hpp"
#include "data/safetensors.hpp"
#include "learn/points.hpp"

using namespace fedctl;

namespace {

learn::LearnerSpec spec(Shape input_shape, const std::string& adapter = "full") {
  learn::LearnerSpec made;
  made.model.kind = "quadratic";
  made.adapter.kind = adapter;
  made.data.input_shape = std::move(input_shape);
  return made;
}

}  // namespace

TEST_CASE("quadratic: loss, gradient and scores are those of the formula", "[learn][quadratic]") {
  const auto learner = learn::make_quadratic_factory(spec({2}))->make();
  CHECK(learner->layout().size() == 2);
  CHECK(learner->layout().block("w").group == "base");
  CHECK(std::vector<float>(learner->weights().begin(), learner->weights().end()) ==
        std::vector<float>{0, 0});
  const test::Points data({{1, 2}, {3, -2}});
  const std::vector<std::size_t> both = {0, 1};
  const auto batch = data.gather(both);
  // At (1, 1): distances (0, -1) and (-2, 3).
  learner->weights()[0] = learner->weights()[1] = 1;
  CHECK(learner->loss(batch) == (0.5 * 1 + 0.5 * 13) / 2);
  CHECK(learner->loss_and_gradient(batch) == learner->loss(batch));
  CHECK(learner->gradient()[0] == -1);
  CHECK(learner->gradient()[1] == 1);
  CHECK(learner->evaluate(batch) == learn::Scores{.loss_sum = 7, .correct = 0, .count = 2});
}

TEST_CASE("quadratic: curvatures weigh the squares", "[learn][quadratic]") {
  const auto learner = learn::make_quadratic_factory(spec({2}))->make();
  learner->weights()[0] = learner->weights()[1] = 1;
  const std::vector<float> targets = {1, 2, 3, -2}, curvatures = {5, 2, 1, 3};
  data::Batch batch = {{"target", Tensor::of(targets, {2, 2})},
                       {"curvature", Tensor::of(curvatures, {2, 2})}};
  // Distances (0, -1) and (-2, 3).
  CHECK(learner->loss_and_gradient(batch) == (0.5 * 2 + 0.5 * (4 + 27)) / 2);
  CHECK(learner->gradient()[0] == -1);
  CHECK(learner->gradient()[1] == (2 * -1 + 3 * 3) / 2.0F);
  batch["curvature"] = Tensor::of(std::span(curvatures).first(2), {1, 2});
  CHECK_THROWS_AS(learner->loss(batch), DataError);
}

TEST_CASE("quadratic: learners of one factory do not share weights", "[learn][quadratic]") {
  const auto factory = learn::make_quadratic_factory(spec({2, 3}));
  const auto one = factory->make(), other = factory->make();
  CHECK(one->layout() == other->layout());
  CHECK(one->layout().size() == 6);
  one->weights()[0] = 1;
  CHECK(other->weights()[0] == 0);
  CHECK(one->base_digest() == other->base_digest());
  CHECK(one->base_parameters() == 0);
}

TEST_CASE("quadratic: what does not fit is refused", "[learn][quadratic]") {
  CHECK_THROWS_AS(learn::make_quadratic_factory(spec({2}, "lora")), ConfigError);
  CHECK_THROWS_AS(learn::make_quadratic_factory(spec({})), ConfigError);
  const auto learner = learn::make_quadratic_factory(spec({2}))->make();
  for (const data::Batch& bad :
       {data::Batch{}, data::Batch{{"features", Tensor::zeros(DType::f32, {1, 2})}},
        data::Batch{{"target", Tensor::zeros(DType::f32, {1, 3})}},
        data::Batch{{"target", Tensor::zeros(DType::f32, {2})}},
        data::Batch{{"target", Tensor::zeros(DType::f32, {0, 2})}},
        data::Batch{{"target", Tensor::zeros(DType::i64, {1, 2})}}}) {
    CHECK_THROWS_AS(learner->loss(bad), DataError);
    CHECK_THROWS_AS(learner->loss_and_gradient(bad), DataError);
    CHECK_THROWS_AS(learner->evaluate(bad), DataError);
  }
  CHECK_THROWS_AS(learner->logits({}), DataError);
}

TEST_CASE("quadratic: the saved weights are read back", "[learn][quadratic]") {
  const std::string folder = std::string(FEDCTL_BINARY_DIR) + "/quadratic_test/saved";
  std::filesystem::remove_all(folder);
  const auto learner = learn::make_quadratic_factory(spec({3}))->make();
  learner->weights()[1] = 2.5F;
  learner->save_adapter(folder, {{"round", "4"}});
  CHECK(std::filesystem::exists(folder + "/config.json"));
  const auto file = data::Safetensors::open(folder + "/model.safetensors");
  const Tensor saved = file.f32("w");
  CHECK(saved.shape == Shape{3});
  CHECK(std::vector<float>(saved.f32().begin(), saved.f32().end()) ==
        std::vector<float>{0, 2.5F, 0});
  CHECK(file.metadata().at("round") == "4");
  CHECK_THROWS_AS(learner->save_adapter("/proc/nowhere", {}), RunDirectoryError);
}
