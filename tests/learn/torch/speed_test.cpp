// Samples a second of one thread's own time, whatever else runs on the machine; hidden. Run:
// learn_torch_test "[.bench]".
#include <cstdio>
#include <ctime>

#include "learn/torch/models.hpp"

using namespace fedctl;

namespace {

// The fastest and the median of steps that together take about three seconds.
void report(const char* name, std::int64_t samples, const std::function<void()>& step) {
  std::vector<double> seconds;
  for (double sum = 0; sum < 3;) {
    const std::clock_t start = std::clock();
    step();
    seconds.push_back(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    sum += seconds.back();
  }
  std::ranges::sort(seconds);
  std::printf("%-32s %8.1f samples/s best, %8.1f median\n", name,
              static_cast<double>(samples) / seconds.front(),
              static_cast<double>(samples) / seconds[seconds.size() / 2]);
}

}  // namespace

TEST_CASE("speed of training and evaluation", "[.bench]") {
  if (const auto model = test::shared_data("models/stories260K/stories260K.bin")) {
    learn::LearnerSpec spec = test::spec("llama", "lora", test::texts(512), *model);
    dynamic_cast<learn::LoraOptions&>(*spec.adapter.options).rank = 4;
    const auto learner = learn::make_factory(spec)->make();
    const data::Batch batch = test::text_batch(spec.data, 16, 128);
    report("stories260K lora r4 train 16x128", 16, [&] { learner->loss_and_gradient(batch); });
    report("stories260K lora r4 eval 16x128", 16, [&] { learner->evaluate(batch); });
  }
  learn::LearnerSpec spec = test::spec("vit", "lora", test::images({1, 28, 28}));
  dynamic_cast<learn::VitOptions&>(*spec.model.options) = learn::VitOptions();
  dynamic_cast<learn::LoraOptions&>(*spec.adapter.options).rank = 8;
  const auto learner = learn::make_factory(spec)->make();
  const data::Batch batch = test::image_batch(spec.data, 32);
  report("vit 3x64 lora r8 train 32x28x28", 32, [&] { learner->loss_and_gradient(batch); });
  report("vit 3x64 lora r8 eval 32x28x28", 32, [&] { learner->evaluate(batch); });
}

TEST_CASE("speed of training MiniLM-L6", "[.bench][minilm]") {
  const auto model = test::shared_data("models/minilm-l6");
  if (!model) return;
  learn::LearnerSpec spec = test::spec("bert", "lora", test::sentences(30522), *model);
  dynamic_cast<learn::LoraOptions&>(*spec.adapter.options).rank = 8;
  dynamic_cast<learn::BertOptions&>(*spec.model.options).pooling = "mean";
  const auto learner = learn::make_factory(spec)->make();
  for (const std::int64_t length : {15, 32}) {
    const data::Batch batch = test::text_batch(spec.data, 16, length);
    const std::string name = "minilm lora r8 train 16x" + std::to_string(length);
    report(name.c_str(), 16, [&] { learner->loss_and_gradient(batch); });
  }
}
