// The convolutional network of McMahan et al.
#include "learn/torch/models.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

data::DatasetInfo ten_classes(Shape shape) {
  data::DatasetInfo info = test::images(std::move(shape));
  info.classes = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  return info;
}

learn::LearnerSpec whole_size(const std::string& adapter, Shape shape) {
  learn::LearnerSpec spec = test::spec("cnn", adapter, ten_classes(std::move(shape)));
  dynamic_cast<learn::CnnOptions&>(*spec.model.options) = learn::CnnOptions();
  return spec;
}

}  // namespace

TEST_CASE("the cnn has the paper's 1,663,370 parameters", "[learn][torch][cnn]") {
  const auto learner = learn::make_factory(whole_size("full", {1, 28, 28}))->make();
  CHECK(learner->layout().size() == 1'663'370);
  CHECK(learner->layout().block("conv2.weight").shape == Shape{64, 32, 5, 5});
  CHECK(learner->layout().block("fc1.weight").shape == Shape{512, 3136});
  CHECK(learner->layout().block("classifier.weight").group == "head");
}

TEST_CASE("the cnn takes colour images of 32x32", "[learn][torch][cnn]") {
  const learn::LearnerSpec spec = whole_size("lora", {3, 32, 32});
  const auto learner = learn::make_factory(spec)->make();
  CHECK(learner->logits(test::image_batch(spec.data, 2)).shape == Shape{2, 10});
  // A of 3 x 4096, B of 512 x 3, the head of 10 x 512 and 10.
  CHECK(learner->layout().size() == 3 * 4096 + 512 * 3 + 10 * 512 + 10);
}

TEST_CASE("the cnn's convolutions see their neighbours and pooling takes the largest",
          "[learn][torch][cnn]") {
  // One channel, all kernels the centre alone: what is left is pooling.
  learn::LearnerSpec spec = test::spec("cnn", "full", test::images({1, 4, 4}));
  dynamic_cast<learn::CnnOptions&>(*spec.model.options).channels = 1;
  const auto learner = learn::make_factory(spec)->make();
  const auto block = [&](const char* name) {
    const Block& found = learner->layout().block(name);
    return learner->weights().subspan(found.offset, found.count);
  };
  std::ranges::fill(learner->weights(), 0.0F);
  block("conv1.weight")[12] = 1;
  std::vector<float> values(16);
  for (std::size_t i = 0; i < 16; ++i) values[i] = static_cast<float>(i);
  const data::Batch batch = {{"pixels", Tensor::of(std::span<const float>(values), {1, 1, 4, 4})}};
  const TensorMap pooled = learner->forward("embed", batch);
  CHECK(test::copy(pooled.at("rows").f32()) == std::vector<float>{5, 7, 13, 15});
  // The kernel's first entry looks two rows up and two columns to the left; zero beyond the edge.
  block("conv1.weight")[12] = 0;
  block("conv1.weight")[0] = 1;
  const TensorMap moved = learner->forward("embed", batch);
  CHECK(test::copy(moved.at("rows").f32()) == std::vector<float>{0, 0, 0, 5});
  block("conv1.bias")[0] = -3;  // ReLU after the bias
  const TensorMap lowered = learner->forward("embed", batch);
  CHECK(test::copy(lowered.at("rows").f32()) == std::vector<float>{0, 0, 0, 2});
}

TEST_CASE("a saved cnn is loaded again", "[learn][torch][cnn]") {
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("cnn", "full", test::info_for("cnn"));
  const auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner);
  learner->save_adapter(folder.path(), {});
  const learn::LearnerSpec again =
      test::spec("cnn", "lora", test::info_for("cnn"), folder.path(), 1234);
  const data::Batch batch = test::batch_for(again, 3);
  CHECK(learn::make_factory(again)->make()->logits(batch) == learner->logits(batch));
}

TEST_CASE("what a cnn cannot take is refused", "[learn][torch][cnn]") {
  const auto require = [](const learn::LearnerSpec& spec, const std::string& reason) {
    REQUIRE_THROWS_WITH(learn::make_factory(spec), Contains(reason));
    REQUIRE_THROWS_AS(learn::make_factory(spec), ConfigError);
  };
  require(test::spec("cnn", "full", test::images({1, 3, 8})), "must be at least 4");
  require(test::spec("cnn", "full", test::images({8})), "[channels,height,width]");
  require(test::spec("cnn", "prompt", test::images({1, 8, 8})), "reads a sequence");
}
