// Parts of a model run apart: the same logits and the same gradient as the whole.
#include <algorithm>
#include <cmath>

#include "learn/torch/models.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

// Parts run by the operators; fused_test.cpp compares the fused step with those.
learn::LearnerSpec spec_of(const test::Pair& pair) {
  learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, test::info_for(pair.model));
  spec.fused = false;
  return spec;
}
std::unique_ptr<learn::Learner> make(const std::string& model, const std::string& adapter) {
  return learn::make_factory(spec_of({model, adapter}))->make();
}

std::vector<test::Pair> parted_pairs() {
  std::vector<test::Pair> pairs;
  for (const test::Pair& pair : test::pairs()) {
    if (!make(pair.model, pair.adapter)->parts().empty()) pairs.push_back(pair);
  }
  return pairs;
}

// All parts, one after the other.
TensorMap run_all(learn::Learner& learner, TensorMap inputs) {
  for (const std::string& part : learner.parts()) inputs = learner.forward(part, inputs);
  return inputs;
}

// d mean cross entropy / d logits.
Tensor by_logits(const Tensor& logits, const Tensor& labels) {
  Tensor gradient = Tensor::zeros(DType::f32, logits.shape);
  const auto columns = static_cast<std::size_t>(logits.shape[1]);
  const auto count = labels.i64().size() -
                     static_cast<std::size_t>(std::ranges::count(labels.i64(), data::kIgnore));
  for (std::size_t row = 0; row < labels.i64().size(); ++row) {
    const std::int64_t label = labels.i64()[row];
    if (label == data::kIgnore) continue;
    const std::span<const float> in = logits.f32().subspan(row * columns, columns);
    const std::span<float> out = gradient.f32().subspan(row * columns, columns);
    double sum = 0;
    for (const float value : in) sum += std::exp(static_cast<double>(value));
    for (std::size_t column = 0; column < columns; ++column) {
      const double hit = label == static_cast<std::int64_t>(column) ? 1 : 0;
      out[column] = static_cast<float>((std::exp(static_cast<double>(in[column])) / sum - hit) /
                                       static_cast<double>(count));
    }
  }
  return gradient;
}

void require_refusal(learn::Learner& learner, const std::string& part, const TensorMap& inputs,
                     const std::string& reason) {
  REQUIRE_THROWS_WITH(learner.forward(part, inputs),
                      Contains("part \"" + part + "\"") && Contains(reason));
  REQUIRE_THROWS_AS(learner.forward(part, inputs), DataError);
}

TensorMap with(TensorMap tensors, const std::string& name, Tensor tensor) {
  tensors[name] = std::move(tensor);
  return tensors;
}

}  // namespace

TEST_CASE("one part after the other gives the logits, bit for bit", "[learn][torch][parts]") {
  const test::Pair pair = GENERATE(from_range(parted_pairs()));
  INFO(pair.model << " with " << pair.adapter);
  const auto learner = make(pair.model, pair.adapter);
  test::disturb(*learner);
  data::Batch batch = test::batch_for(spec_of(pair), 3);
  CHECK(run_all(*learner, batch).at("logits") == learner->logits(batch));
  batch.erase("labels");
  CHECK(run_all(*learner, batch).at("logits") == learner->logits(batch));
}

TEST_CASE("backward over the parts gives the gradient of the whole", "[learn][torch][parts]") {
  const test::Pair pair = GENERATE(from_range(parted_pairs()));
  INFO(pair.model << " with " << pair.adapter);
  const auto learner = make(pair.model, pair.adapter);
  test::disturb(*learner);
  const data::Batch batch = test::batch_for(spec_of(pair), 3);
  learner->loss_and_gradient(batch);
  const std::vector<float> expected = test::copy(learner->gradient());

  const std::vector<std::string> parts = learner->parts();
  const auto add_gradient = [&] {
    const Tensor logits = run_all(*learner, batch).at("logits");
    TensorMap gradients = {{"logits", by_logits(logits, batch.at("labels"))}};
    for (std::size_t i = parts.size(); i-- > 0;) gradients = learner->backward(parts[i], gradients);
    CHECK(gradients.empty());  // embed's inputs have none
  };
  std::ranges::fill(learner->gradient(), 0.0F);
  for (int times = 1; times <= 2; ++times) {
    add_gradient();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(times, i);
      const double value = static_cast<double>(expected[i]) * times;
      REQUIRE(static_cast<double>(learner->gradient()[i]) ==
              Approx(value).margin(1e-6).epsilon(1e-5));
    }
  }
}

TEST_CASE("parts keep their own last call", "[learn][torch][parts]") {
  const auto learner = make("vit", "lora");
  test::disturb(*learner);
  const data::DatasetInfo info = test::info_for("vit");
  const TensorMap first = learner->forward("embed", test::image_batch(info, 2, 1));
  const TensorMap other = learner->forward("embed", test::image_batch(info, 3, 2));
  const TensorMap out = learner->forward("block.0", first);
  CHECK(out.at("lengths").shape == Shape{2});
  const Tensor ones =
      Tensor::of(std::vector<float>(out.at("rows").f32().size(), 1.0F), out.at("rows").shape);
  const TensorMap back = learner->backward("block.0", {{"rows", ones}});
  CHECK(back.at("rows").shape == first.at("rows").shape);
  // embed was called last with three examples; a gradient for two is refused and may be mended.
  CHECK_THROWS_AS(learner->backward("embed", back), DataError);
  CHECK(learner->backward("embed", {{"rows", other.at("rows")}}).empty());
}

TEST_CASE("the prompt's rows and the last block's single rows are in the lengths",
          "[learn][torch][parts]") {
  const auto learner = make("kwt", "prompt");  // 5 frames, a class token, 3 soft tokens
  CHECK(learner->parts() == std::vector<std::string>{"embed", "block.0", "block.1", "head"});
  TensorMap state = learner->forward("embed", test::image_batch(test::info_for("kwt"), 2));
  CHECK(state.at("lengths") == test::numbers({9, 9}));
  CHECK(state.at("rows").shape == Shape{18, 12});
  state = learner->forward("block.1", learner->forward("block.0", state));
  CHECK(state.at("lengths") == test::numbers({1, 1}));
  CHECK(learner->forward("head", state).at("logits").shape == Shape{2, 3});
}

TEST_CASE("what does not fit a part is refused", "[learn][torch][parts]") {
  const auto learner = make("vit", "lora");  // 6 patches and a class token, width 12
  const data::Batch batch = test::image_batch(test::info_for("vit"), 2);
  const TensorMap state = learner->forward("embed", batch);
  REQUIRE_NOTHROW(learner->forward("block.0", state));
  const Tensor& rows = state.at("rows");

  require_refusal(*learner, "block.0", {}, "no rows");
  require_refusal(*learner, "block.0", {{"rows", rows}}, "no lengths");
  require_refusal(*learner, "block.0", with(state, "lengths", test::numbers({7, 8})),
                  "has 8 rows, expected 7 to 7");
  require_refusal(*learner, "block.0", with(state, "lengths", test::numbers({7, -1})),
                  "has -1 rows");
  require_refusal(*learner, "block.0", with(state, "lengths", test::numbers({7})),
                  "rows are f32[14,12] in 672 bytes, expected f32[7,12]");
  require_refusal(*learner, "block.0", with(state, "lengths", Tensor::zeros(DType::i64, {0})),
                  "at least one example");
  require_refusal(*learner, "block.0", with(state, "lengths", Tensor::zeros(DType::f32, {2})),
                  "lengths are f32[2]");
  require_refusal(*learner, "block.0", with(state, "rows", Tensor::zeros(DType::f32, {14, 11})),
                  "f32[14,11]");
  Tensor cut = rows;
  cut.bytes.resize(8);
  require_refusal(*learner, "block.0", with(state, "rows", cut), "in 8 bytes");
  require_refusal(*learner, "head", state, "has 7 rows, expected 1 to 1");
  CHECK_THROWS_AS(learner->forward("embed", state), DataError);

  const TensorMap wrong = {{"rows", Tensor::zeros(DType::f32, {14, 11})}};
  CHECK_THROWS_WITH(learner->backward("block.0", wrong),
                    Contains("part \"block.0\": the gradients of rows are f32[14,11]") &&
                        Contains("expected f32[14,12]"));
  CHECK_THROWS_AS(learner->backward("block.0", {}), DataError);
  CHECK_NOTHROW(learner->backward("block.0", {{"rows", rows}}));
  for (const char* part : {"block.2", "block.-1", "block.", "tail", ""}) {
    CHECK_THROWS_AS(learner->forward(part, state), ConfigError);
    CHECK_THROWS_AS(learner->backward(part, state), ConfigError);
  }
}

TEST_CASE("a model without parts says so", "[learn][parts]") {
  learn::LearnerSpec spec = test::spec("quadratic", "full", test::images({4}));
  spec.data.task = data::Task::regress;
  const auto learner = learn::make_factory(spec)->make();
  CHECK(learner->parts().empty());
  CHECK_THROWS_WITH(learner->forward("embed", {}), Contains("no part \"embed\""));
  CHECK_THROWS_AS(learner->forward("embed", {}), ConfigError);
  CHECK_THROWS_AS(learner->backward("head", {}), ConfigError);
}
