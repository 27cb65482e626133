// The fused Llama step against the family's own operators, which the golden tests compare with
// PyTorch, and what it must not do: remember, or let one text change another.
#include <algorithm>
#include <cmath>

#include "learn/torch/model_files.hpp"

using namespace fedctl;

namespace {

using Made = std::unique_ptr<learn::Learner>;

struct Two {
  Made fused, plain;
};
Two both(learn::LearnerSpec spec) {
  Two two;
  two.fused = learn::make_factory(spec)->make();
  spec.fused = false;
  two.plain = learn::make_factory(spec)->make();
  return two;
}

// The largest difference, in units of the largest value expected.
double distance(std::span<const float> found, std::span<const float> expected) {
  REQUIRE(found.size() == expected.size());
  double most = 0, largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    most = std::max(most, std::fabs(static_cast<double>(found[i]) - expected[i]));
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
  }
  return largest == 0 ? most : most / largest;
}

void require_same(const Two& two, const data::Batch& batch, double smoothing = 0,
                  double size = 0.1) {
  for (const Made* learner : {&two.fused, &two.plain}) {
    test::disturb(**learner, size);
    (*learner)->set_label_smoothing(smoothing);
  }
  const double expected = two.plain->loss_and_gradient(batch);
  CHECK(two.fused->loss_and_gradient(batch) == Approx(expected).epsilon(1e-6));
  CHECK(distance(two.fused->gradient(), two.plain->gradient()) < 1e-5);
  for (const Block& block : two.plain->layout().blocks()) {
    INFO(block.name);  // small beside the others: what rounding they took part in is not
    CHECK(distance(two.fused->gradient().subspan(block.offset, block.count),
                   two.plain->gradient().subspan(block.offset, block.count)) < 1e-4);
  }
  Tensor logits;
  const learn::Scores found = two.fused->evaluate(batch, logits);
  const learn::Scores scores = two.plain->evaluate(batch);
  CHECK(found.loss_sum == Approx(scores.loss_sum).epsilon(1e-6));
  CHECK(found.count == scores.count);
  CHECK(found.correct == scores.correct);
  CHECK(two.fused->evaluate(batch) == found);
  const Tensor expected_logits = two.plain->logits(batch);
  CHECK(logits.shape == expected_logits.shape);
  CHECK(distance(logits.f32(), expected_logits.f32()) < 1e-5);
  CHECK(two.fused->logits(batch) == logits);
}

learn::LearnerSpec llama(const std::string& adapter, const std::string& path = "") {
  learn::LearnerSpec spec = test::spec("llama", adapter, test::texts(path.empty() ? 19 : 11), path);
  dynamic_cast<learn::LlamaOptions&>(*spec.model.options).context = 400;
  return spec;
}
learn::LoraOptions& lora_of(learn::LearnerSpec& spec) {
  return dynamic_cast<learn::LoraOptions&>(*spec.adapter.options);
}

// Groups of one text and of many, panels that end within a text and at its end.
data::Batch ragged(const learn::LearnerSpec& spec) {
  return test::text_batch(spec.data, {1, 40, 3, 17, 16, 1, 31, 129, 5, 64, 64, 2});
}

}  // namespace

TEST_CASE("the fused step gives what the operators give", "[learn][torch][fused]") {
  const std::vector<std::string> targets =
      GENERATE(std::vector<std::string>{"query", "value"}, std::vector<std::string>{"down"},
               std::vector<std::string>{"up"}, std::vector<std::string>{"gate", "output"},
               std::vector<std::string>{"key"}, std::vector<std::string>{"model.layers.1.*"},
               std::vector<std::string>{"query", "key", "value", "output", "gate", "up", "down"});
  const bool train_head = GENERATE(true, false);
  INFO(targets.front() << " of " << targets.size() << " head " << train_head);
  learn::LearnerSpec spec = llama("lora");
  lora_of(spec).targets = targets;
  lora_of(spec).train_head = train_head;
  if (targets.size() == 7) {
    lora_of(spec).ranks = {"value=1", "down=17:3"};
    lora_of(spec).rslora = true;
  }
  require_same(both(spec), ragged(spec), train_head ? 0.1 : 0);
}

TEST_CASE("so it does with whatever else is trained", "[learn][torch][fused]") {
  const std::string adapter = GENERATE("lora", "head", "full");
  const std::int64_t kv_heads = GENERATE(1, 4);
  INFO(adapter << ' ' << kv_heads);
  learn::LearnerSpec spec = llama(adapter);
  auto& options = dynamic_cast<learn::LlamaOptions&>(*spec.model.options);
  options.kv_heads = kv_heads;
  options.width = 24;  // heads of 6, which fill no vector
  options.hidden = 37;
  options.depth = 3;
  require_same(both(spec), ragged(spec), 0.05);
}

TEST_CASE("so it does with an output matrix of its own", "[learn][torch][fused]") {
  const std::string adapter = GENERATE("lora", "head", "full");
  INFO(adapter);
  const test::Folder folder;
  test::write_model(folder.path(), test::llama_config(), test::llama_values());
  const learn::LearnerSpec spec = llama(adapter, folder.path());
  require_same(both(spec), test::text_batch(spec.data, {9, 1, 16}));
}

TEST_CASE("so it does on stories260K", "[learn][torch][fused][data]") {
  const auto model = test::shared_data("models/stories260K/stories260K.bin");
  if (!model) return;
  const std::string adapter = GENERATE("lora", "head", "full");
  INFO(adapter);
  const learn::LearnerSpec spec = test::spec("llama", adapter, test::texts(512), *model);
  require_same(both(spec), test::text_batch(spec.data, {128, 128, 9, 1, 22, 200}), 0, 0.02);
}

TEST_CASE("the fused step remembers nothing", "[learn][torch][fused]") {
  const std::string adapter = GENERATE("lora", "full");
  const learn::LearnerSpec spec = llama(adapter);
  const auto factory = learn::make_factory(spec);
  const auto fresh = factory->make(), used = factory->make();
  for (const auto& learner : {fresh.get(), used.get()}) test::disturb(*learner, 0.1);
  used->loss_and_gradient(test::text_batch(spec.data, 1, 390, 3));
  used->evaluate(test::text_batch(spec.data, {1, 1}, 4));
  const data::Batch batch = ragged(spec);
  CHECK(used->loss_and_gradient(batch) == fresh->loss_and_gradient(batch));
  CHECK(test::copy(used->gradient()) == test::copy(fresh->gradient()));
  CHECK(used->evaluate(batch) == fresh->evaluate(batch));
}

TEST_CASE("a text's logits do not depend on the texts beside it", "[learn][torch][fused]") {
  const learn::LearnerSpec spec = llama("lora");
  const auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner, 0.1);
  const data::Batch batch = ragged(spec);
  const Tensor all = learner->logits(batch);
  std::size_t row = 0;
  for (std::int64_t i = 0; i < 12; ++i) {
    CAPTURE(i);
    const Tensor alone = learner->logits(test::example(batch, i));
    const auto part = all.f32().subspan(row, alone.f32().size());
    REQUIRE(std::ranges::equal(part, alone.f32()));
    row += part.size();
  }
}

TEST_CASE("a batch without predictions has no loss and no gradient", "[learn][torch][fused]") {
  const std::string adapter = GENERATE("lora", "head");
  const learn::LearnerSpec spec = llama(adapter);
  const auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner, 0.1);
  data::Batch batch = ragged(spec);
  learner->loss_and_gradient(batch);
  std::ranges::fill(batch["labels"].i64(), data::kIgnore);
  CHECK(learner->loss_and_gradient(batch) == 0);
  CHECK(std::ranges::all_of(learner->gradient(), [](float value) { return value == 0; }));
}

TEST_CASE("what has no fused step runs by its operators", "[learn][torch][fused]") {
  const std::string adapter = GENERATE("dora", "ia3", "vera", "prompt", "prefix", "dropout");
  INFO(adapter);
  learn::LearnerSpec spec = llama(adapter == "dropout" ? "lora" : adapter);
  if (adapter == "dropout") lora_of(spec).dropout = 0.5;
  const Two two = both(spec);
  const data::Batch batch = ragged(spec);
  CHECK(two.fused->loss_and_gradient(batch) == two.plain->loss_and_gradient(batch));
  CHECK(test::copy(two.fused->gradient()) == test::copy(two.plain->gradient()));
}
