// Batches and combinations that do not fit: an error with a reason, never a crash.
#include <cmath>

#include "learn/torch/models.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

std::unique_ptr<learn::Learner> make(const char* model, const char* adapter) {
  return learn::make_factory(test::spec(model, adapter, test::info_for(model)))->make();
}

void require_refusal(learn::Learner& learner, const data::Batch& batch, const std::string& reason) {
  REQUIRE_THROWS_WITH(learner.loss(batch), Contains(reason));
  REQUIRE_THROWS_AS(learner.loss(batch), DataError);
  REQUIRE_THROWS_AS(learner.loss_and_gradient(batch), DataError);
  REQUIRE_THROWS_AS(learner.evaluate(batch), DataError);
}

data::Batch with(data::Batch batch, const std::string& name, Tensor tensor) {
  batch[name] = std::move(tensor);
  return batch;
}

void require_config_error(const learn::LearnerSpec& spec, const std::string& reason) {
  REQUIRE_THROWS_WITH(learn::make_factory(spec), Contains(reason));
  REQUIRE_THROWS_AS(learn::make_factory(spec), ConfigError);
}

}  // namespace

TEST_CASE("image batches that do not fit are refused", "[learn][torch][refusal]") {
  const std::string model = GENERATE("mlp", "vit");
  const auto learner = make(model.c_str(), "head");
  const data::Batch good = test::image_batch(test::info_for(model), 2);
  REQUIRE_NOTHROW(learner->loss(good));
  const Tensor& pixels = good.at("pixels");

  require_refusal(*learner, {}, "neither pixels nor features");
  require_refusal(*learner, {{"pixels", pixels}}, "no labels");
  CHECK_NOTHROW(learner->logits({{"pixels", pixels}}));
  Tensor turned = pixels;
  std::swap(turned.shape[2], turned.shape[3]);
  require_refusal(*learner, with(good, "pixels", turned), "expected f32[2,");
  Tensor whole = Tensor::zeros(DType::i64, pixels.shape);
  require_refusal(*learner, with(good, "pixels", whole), "are i64[");
  Tensor none = Tensor::zeros(DType::f32, {0, 1, 4, 5});
  require_refusal(*learner, with(good, "pixels", none), "no example");
  Tensor scalar{DType::f32, {}, Bytes(4)};
  require_refusal(*learner, with(good, "pixels", scalar), "no example");
  Tensor cut = pixels;
  cut.bytes.resize(8);
  require_refusal(*learner, with(good, "pixels", cut), "in 8 bytes");

  const auto labels = [](std::vector<std::int64_t> values) {
    return Tensor::of(std::span<const std::int64_t>(values), {});
  };
  require_refusal(*learner, with(good, "labels", labels({0})), "labels are i64[1]");
  require_refusal(*learner, with(good, "labels", labels({0, 3})), "label 3 is not in [0, 3)");
  require_refusal(*learner, with(good, "labels", labels({-1, 0})), "label -1");
  require_refusal(*learner, with(good, "labels", labels({0, data::kIgnore})), "label -100");
  require_refusal(*learner, with(good, "labels", Tensor::zeros(DType::f32, {2})), "are f32[2]");
}

namespace {

Tensor labels_like(const data::Batch& batch, std::int64_t value) {
  return test::numbers(std::vector(batch.at("tokens").i64().size(), value));
}

}  // namespace

TEST_CASE("text batches that do not fit are refused", "[learn][torch][refusal]") {
  const std::string adapter = GENERATE("lora", "prompt");
  const auto learner = make("llama", adapter.c_str());
  const data::Batch good = test::text_batch(test::texts(), 2, 6);
  REQUIRE_NOTHROW(learner->loss(good));
  require_refusal(*learner, {}, "no tokens");
  require_refusal(*learner, {{"tokens", good.at("tokens")}}, "no lengths");
  require_refusal(*learner, {{"tokens", good.at("tokens")}, {"lengths", good.at("lengths")}},
                  "no labels");
  Tensor tokens = good.at("tokens");
  tokens.i64()[3] = 19;
  require_refusal(*learner, with(good, "tokens", tokens), "token 19 is not in [0, 19)");
  tokens.i64()[3] = -1;
  require_refusal(*learner, with(good, "tokens", tokens), "token -1");
  tokens.i64()[3] = data::kIgnore;
  require_refusal(*learner, with(good, "tokens", tokens), "token -100");
  require_refusal(*learner, with(good, "tokens", Tensor::zeros(DType::i64, {2, 6})),
                  "i64[2,6], expected i64[12]");
  require_refusal(*learner, with(good, "tokens", Tensor::zeros(DType::i64, {0})), "length");
  for (const std::vector<std::int64_t>& lengths :
       {std::vector<std::int64_t>{6}, {6, 6, 1}, {12, 0}, {7, 6}, {-1, 13}, {}}) {
    require_refusal(*learner, with(good, "lengths", test::numbers(lengths)), "length");
  }
  require_refusal(*learner, with(good, "lengths", Tensor::zeros(DType::i64, {2, 1})), "lengths");
  require_refusal(*learner, with(good, "segments", labels_like(good, 2)), "segment 2");
  require_refusal(*learner, with(good, "tokens", Tensor::zeros(DType::f32, {12})), "f32[12]");
  Tensor labels = good.at("labels");
  labels.i64()[4] = 19;
  require_refusal(*learner, with(good, "labels", labels), "label 19");
  require_refusal(*learner, with(good, "labels", Tensor::zeros(DType::i64, {2})), "labels are");

  // The context has 32 positions, of which a prompt takes three.
  const std::int64_t room = adapter == "prompt" ? 29 : 32;
  CHECK_NOTHROW(learner->loss(test::text_batch(test::texts(), 1, room)));
  require_refusal(*learner, test::text_batch(test::texts(), 1, room + 1), "leave room for");
}

TEST_CASE("a text with nothing to predict costs nothing", "[learn][torch]") {
  const auto learner = make("llama", "lora");
  data::Batch batch = test::text_batch(test::texts(), 2, 6);
  for (auto& label : batch["labels"].i64()) label = data::kIgnore;
  CHECK(learner->loss(batch) == 0);
  CHECK(learner->loss_and_gradient(batch) == 0);
  CHECK(std::ranges::all_of(learner->gradient(), [](float value) { return value == 0; }));
  CHECK(learner->evaluate(batch) == learn::Scores{});
}

TEST_CASE("kinds that do not fit together are refused", "[learn][torch][refusal]") {
  require_config_error(test::spec("mlp", "prompt", test::images()), "prompt");
  require_config_error(test::spec("mlp", "lora", test::texts()), "no classes");
  require_config_error(test::spec("vit", "lora", test::texts()), "no classes");
  require_config_error(test::spec("vit", "lora", test::images({4})), "[channels,height,width]");
  require_config_error(test::spec("llama", "lora", test::images()), "no text");
  require_config_error(test::spec("vit", "lora", test::images({1, 8, 9})), "model.patch is 4");
  data::DatasetInfo no_classes = test::images();
  no_classes.classes.clear();
  require_config_error(test::spec("mlp", "full", no_classes), "no classes");
  data::DatasetInfo numbers = test::images();
  numbers.task = data::Task::regress;
  require_config_error(test::spec("mlp", "full", numbers), "no classes");

  learn::LearnerSpec lora = test::spec("vit", "lora", test::images());
  dynamic_cast<learn::LoraOptions&>(*lora.adapter.options).targets = {"query", "gate"};
  require_config_error(lora, "\"gate\"");
  require_config_error(lora, "query, key, value, output, fc1, fc2");

  learn::LearnerSpec heads = test::spec("vit", "lora", test::images());
  dynamic_cast<learn::VitOptions&>(*heads.model.options).heads = 5;
  require_config_error(heads, "model.heads is 5");
  learn::LearnerSpec llama = test::spec("llama", "lora", test::texts());
  dynamic_cast<learn::LlamaOptions&>(*llama.model.options).kv_heads = 3;
  require_config_error(llama, "model.kv_heads is 3");
  dynamic_cast<learn::LlamaOptions&>(*llama.model.options).heads = 16;
  require_config_error(llama, "even parts");
  learn::LearnerSpec prompt = test::spec("llama", "prompt", test::texts());
  dynamic_cast<learn::PromptOptions&>(*prompt.adapter.options).tokens = 32;
  require_config_error(prompt, "adapter.tokens is 32");

  // A linear model has no layer for an adapter, and its head is frozen.
  learn::LearnerSpec nothing = test::spec("mlp", "lora", test::images());
  dynamic_cast<learn::MlpOptions&>(*nothing.model.options).layers = 0;
  dynamic_cast<learn::LoraOptions&>(*nothing.adapter.options).train_head = false;
  require_config_error(nothing, "nothing to train");
}
