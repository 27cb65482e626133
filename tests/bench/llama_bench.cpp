// The fused Llama step against the family's own operators (LibTorch for the matrices, hand-written
// loops for attention, norm and gate), in one process, turn by turn, on one thread's own time:
// samples a second, least, median and most of the rounds, and the ratio of the medians with the
// least and the largest ratio of a round.
// Larger models than these have no fused step (docs/models.md).
//   llama_bench [WORD...]      only lines that contain one of the words
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "learn/spec.hpp"

using namespace fedctl;

namespace {

constexpr int kRounds = 9;
constexpr double kRoundSeconds = 0.25;

struct Shape {
  std::int64_t width, hidden, depth, heads, kv_heads, vocabulary;
};
constexpr Shape kStories260k = {64, 172, 5, 8, 4, 512};
constexpr Shape kMiddle = {128, 344, 6, 8, 4, 1024};
constexpr Shape kWider = {192, 512, 6, 6, 6, 2048};

struct Line {
  const char* name;
  Shape shape;
  const char* adapter;
  bool train_head, train;
  std::vector<std::int64_t> lengths;
};

std::vector<std::int64_t> alike(std::size_t count, std::int64_t length) {
  return std::vector<std::int64_t>(count, length);
}
// Banking77's lengths: 15 tokens on average, few long ones.
std::vector<std::int64_t> ragged(std::size_t count) {
  Rng rng(1);
  std::vector<std::int64_t> lengths;
  while (lengths.size() < count) {
    lengths.push_back(static_cast<std::int64_t>(6 + rng.below(10) + rng.below(2) * rng.below(20)));
  }
  return lengths;
}

learn::LearnerSpec spec_of(const Line& line, bool fused) {
  learn::LearnerSpec spec{.model = config::make_plugin(learn::family_kinds(), "llama"),
                          .adapter = config::make_plugin(learn::adapter_kinds(), line.adapter),
                          .data = {},
                          .rng = Rng(1),
                          .fused = fused};
  spec.data.task = data::Task::language;
  spec.data.vocabulary = line.shape.vocabulary;
  auto& llama = dynamic_cast<learn::LlamaOptions&>(*spec.model.options);
  llama.width = line.shape.width;
  llama.hidden = line.shape.hidden;
  llama.depth = line.shape.depth;
  llama.heads = line.shape.heads;
  llama.kv_heads = line.shape.kv_heads;
  if (auto* lora = dynamic_cast<learn::LoraOptions*>(spec.adapter.options.get())) {
    lora->rank = 4;
    lora->train_head = line.train_head;
  }
  return spec;
}

data::Batch batch_of(const Line& line) {
  Rng rng(2);
  std::vector<std::int64_t> tokens, labels;
  for (const std::int64_t length : line.lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      const auto draw = [&] {
        return static_cast<std::int64_t>(
            rng.below(static_cast<std::uint64_t>(line.shape.vocabulary)));
      };
      tokens.push_back(draw());
      labels.push_back(i + 1 == length ? data::kIgnore : draw());
    }
  }
  const auto tensor = [](const std::vector<std::int64_t>& values) {
    return Tensor::of(std::span<const std::int64_t>(values), {});
  };
  return {
      {"tokens", tensor(tokens)}, {"labels", tensor(labels)}, {"lengths", tensor(line.lengths)}};
}

// Samples a second over a round of at least kRoundSeconds.
double round_of(std::size_t samples, const std::function<void()>& step) {
  const std::clock_t start = std::clock();
  double seconds = 0;
  std::size_t steps = 0;
  while (seconds < kRoundSeconds) {
    step();
    ++steps;
    seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  }
  return static_cast<double>(samples * steps) / seconds;
}

struct Spread {
  double least, median, most;
};
Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  return {values.front(), values[values.size() / 2], values.back()};
}

void measure(const Line& line) {
  const data::Batch batch = batch_of(line);
  std::unique_ptr<learn::Learner> learners[2];
  std::vector<double> speeds[2], ratios;
  for (const int fused : {0, 1}) {
    learners[fused] = learn::make_factory(spec_of(line, fused == 1))->make();
    learners[fused]->loss_and_gradient(batch);  // memory for the first time
  }
  for (int round = 0; round < kRounds; ++round) {
    for (const int fused : {round % 2, 1 - round % 2}) {
      learn::Learner& learner = *learners[fused];
      speeds[fused].push_back(round_of(line.lengths.size(), [&] {
        line.train ? static_cast<void>(learner.loss_and_gradient(batch))
                   : static_cast<void>(learner.evaluate(batch));
      }));
    }
    ratios.push_back(speeds[1].back() / speeds[0].back());
  }
  const Spread plain = spread_of(speeds[0]), fused = spread_of(speeds[1]);
  const Spread ratio = spread_of(ratios);
  std::printf(
      "%-34s operators %8.1f %8.1f %8.1f  fused %8.1f %8.1f %8.1f  ratio %.2f (%.2f-%.2f)\n",
      line.name, plain.least, plain.median, plain.most, fused.least, fused.median, fused.most,
      fused.median / plain.median, ratio.least, ratio.most);
  std::fflush(stdout);
}

std::vector<Line> lines() {
  return {
      {"260k train 16x128 lora", kStories260k, "lora", false, true, alike(16, 128)},
      {"260k train 16x128 lora head", kStories260k, "lora", true, true, alike(16, 128)},
      {"260k train 16x128 full", kStories260k, "full", true, true, alike(16, 128)},
      {"260k train 16x128 head", kStories260k, "head", true, true, alike(16, 128)},
      {"260k train 8x128 lora", kStories260k, "lora", false, true, alike(8, 128)},
      {"260k train 2x512 lora", kStories260k, "lora", false, true, alike(2, 512)},
      {"260k train 16 short lora", kStories260k, "lora", false, true, ragged(16)},
      {"260k train 4 short lora", kStories260k, "lora", false, true, ragged(4)},
      {"260k eval 16x128 lora", kStories260k, "lora", false, false, alike(16, 128)},
      {"260k eval 64 short lora", kStories260k, "lora", false, false, ragged(64)},
      {"128 wide train 8x128 lora", kMiddle, "lora", false, true, alike(8, 128)},
      {"128 wide train 16 short lora", kMiddle, "lora", false, true, ragged(16)},
      {"128 wide eval 8x128 lora", kMiddle, "lora", false, false, alike(8, 128)},
      {"192 wide train 8x128 lora", kWider, "lora", false, true, alike(8, 128)},
      {"192 wide train 16 short lora", kWider, "lora", false, true, ragged(16)},
      {"192 wide eval 8x128 lora", kWider, "lora", false, false, alike(8, 128)},
  };
}

}  // namespace

int main(int argc, char** argv) {
  try {
    for (const Line& line : lines()) {
      const auto named = [&](const char* word) {
        return std::string(line.name).find(word) != std::string::npos;
      };
      if (argc == 1 || std::any_of(argv + 1, argv + argc, named)) measure(line);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_bench: %s\n", error.what());
    return 2;
  }
}
