// What learners of one factory share, what they do not, and where initial values come from.
#include <cmath>
#include <thread>

#include "learn/torch/models.hpp"

using namespace fedctl;

namespace {

// Ten steps of plain descent; returns the weights.
std::vector<float> descend(learn::Learner& learner, const learn::LearnerSpec& spec,
                           std::uint64_t seed) {
  for (std::uint64_t step = 0; step < 10; ++step) {
    learner.loss_and_gradient(test::batch_for(spec, 8, 100 * seed + step));
    const std::span<float> weights = learner.weights();
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= 0.1F * learner.gradient()[i];
  }
  learner.evaluate(test::batch_for(spec, 8));
  return test::copy(learner.weights());
}

}  // namespace

TEST_CASE("two learners on two threads give the bytes of one after the other",
          "[learn][torch][threads]") {
  const test::Pair pair = GENERATE(from_range(test::pairs()));
  INFO(pair.model << " with " << pair.adapter);
  const learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, test::info_for(pair.model));
  const auto factory = learn::make_factory(spec);
  const std::vector<float> alone_first = descend(*factory->make(), spec, 1);
  const std::vector<float> alone_second = descend(*factory->make(), spec, 2);
  CHECK(alone_first != alone_second);

  std::vector<float> first, second;
  std::thread one([&] { first = descend(*factory->make(), spec, 1); });
  std::thread two([&] { second = descend(*factory->make(), spec, 2); });
  one.join();
  two.join();
  CHECK(first == alone_first);
  CHECK(second == alone_second);
}

TEST_CASE("training one learner leaves the others and the base alone", "[learn][torch]") {
  const test::Pair pair = GENERATE(from_range(test::pairs()));
  INFO(pair.model << " with " << pair.adapter);
  const learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, test::info_for(pair.model));
  const auto factory = learn::make_factory(spec);
  const auto idle = factory->make();
  const data::Batch batch = test::batch_for(spec, 5);
  const learn::Scores before = idle->evaluate(batch);
  const std::string digest = idle->base_digest();
  const auto busy = factory->make();
  test::disturb(*busy);
  descend(*busy, spec, 3);
  CHECK(idle->evaluate(batch) == before);
  CHECK(factory->make()->evaluate(batch) == before);
  CHECK(factory->make()->base_digest() == digest);
}

TEST_CASE("a learner may outlive its factory", "[learn][torch]") {
  const learn::LearnerSpec spec = test::spec("llama", "lora", test::texts());
  const auto learner = learn::make_factory(spec)->make();
  CHECK(std::isfinite(learner->loss(test::batch_for(spec, 2))));
}

TEST_CASE("initial values depend on seed and name alone", "[learn][torch][init]") {
  learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  const auto learner = learn::make_factory(spec)->make();
  std::vector<float> elsewhere;
  std::thread([&] { elsewhere = test::copy(learn::make_factory(spec)->make()->weights()); }).join();
  CHECK(elsewhere == test::copy(learner->weights()));

  // Another target in front moves every later parameter in the flat vector, but not its values.
  spec.adapter = config::make_plugin(learn::adapter_kinds(), "lora");
  auto& lora = dynamic_cast<learn::LoraOptions&>(*spec.adapter.options);
  lora.rank = 3;
  lora.targets = {"key", "query", "value"};
  const auto more = learn::make_factory(spec)->make();
  REQUIRE(more->layout().size() > learner->layout().size());
  for (const Block& block : learner->layout().blocks()) {
    CAPTURE(block.name);
    const Block& twin = more->layout().block(block.name);
    CHECK(test::copy(learner->weights().subspan(block.offset, block.count)) ==
          test::copy(more->weights().subspan(twin.offset, twin.count)));
  }
  spec.rng = Rng(8);
  CHECK(test::copy(learn::make_factory(spec)->make()->weights()) != test::copy(more->weights()));
}

TEST_CASE("LoRA starts with A uniform in its bounds and B at zero", "[learn][torch][init]") {
  const learn::LearnerSpec spec = test::spec("llama", "lora", test::texts());
  const auto learner = learn::make_factory(spec)->make();
  for (const Block& block : learner->layout().blocks()) {
    CAPTURE(block.name);
    if (block.group == "head") continue;
    CHECK(block.group == "adapter");
    const auto values = learner->weights().subspan(block.offset, block.count);
    const auto [low, high] = std::ranges::minmax(values);
    if (block.name.ends_with(".lora_B.weight")) {
      CHECK((low == 0 && high == 0));
    } else {
      REQUIRE(block.name.ends_with(".lora_A.weight"));
      CHECK((low >= -0.25F && low < -0.1F && high <= 0.25F && high > 0.1F));  // 1 / sqrt(16)
    }
  }
}

TEST_CASE("names, shapes and groups are those of PEFT and HF files", "[learn][torch][layout]") {
  const auto layout_of = [](const char* model, const char* adapter) {
    return learn::make_factory(test::spec(model, adapter, test::info_for(model)))->make()->layout();
  };
  const Layout llama = layout_of("llama", "lora");
  CHECK(llama.blocks().size() == 9);
  CHECK(llama.block("lm_head.weight").group == "head");
  CHECK(llama.block("model.layers.0.self_attn.q_proj.lora_A.weight").shape == Shape{3, 16});
  CHECK(llama.block("model.layers.1.self_attn.v_proj.lora_B.weight").shape == Shape{8, 3});

  const Layout vit = layout_of("vit", "lora");
  CHECK(vit.block("vit.encoder.layer.0.attention.attention.query.lora_A.weight").group ==
        "adapter");
  CHECK(vit.block("classifier.weight").group == "head");
  CHECK(vit.block("classifier.weight").shape == Shape{3, 12});

  CHECK(layout_of("vit", "prompt").block("prompt_embeddings").group == "prompt");
  CHECK(layout_of("llama", "prompt").block("prompt_embeddings").shape == Shape{3, 16});
  CHECK(layout_of("llama", "prompt").blocks().size() == 2);
  CHECK(layout_of("mlp", "head").size() == 3 * 9 + 3);
  CHECK(layout_of("llama", "head").blocks().size() == 1);
  CHECK(layout_of("llama", "head").block("lm_head.weight").group == "head");
  const Layout full = layout_of("vit", "full");
  CHECK(full.block("vit.embeddings.patch_embeddings.projection.weight").shape ==
        Shape{12, 2, 4, 4});
  CHECK(full.block("vit.embeddings.position_embeddings").group == "base");
  CHECK(full.block("classifier.bias").group == "head");
}

TEST_CASE("the base's digest tells what is frozen", "[learn][torch][digest]") {
  const auto make = [](learn::LearnerSpec spec) { return learn::make_factory(spec)->make(); };
  const learn::LearnerSpec lora = test::spec("llama", "lora", test::texts());
  const auto learner = make(lora);
  CHECK(make(lora)->base_digest() == learner->base_digest());
  CHECK(make(test::spec("llama", "lora", test::texts(), "", 8))->base_digest() !=
        learner->base_digest());
  // Heads are no shape, yet they change the function.
  learn::LearnerSpec heads = test::spec("llama", "lora", test::texts());
  dynamic_cast<learn::LlamaOptions&>(*heads.model.options).heads = 2;
  CHECK(make(heads)->base_digest() != learner->base_digest());
  CHECK(learner->base_parameters() ==
        19 * 16 + 2 * (2 * 16 + 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 20) + 16);

  // `full` has nothing frozen, but starts from somewhere.
  const auto full = make(test::spec("llama", "full", test::texts()));
  CHECK(full->base_parameters() == 0);
  CHECK(make(test::spec("llama", "full", test::texts(), "", 8))->base_digest() !=
        full->base_digest());
  // The classifier is trained and so no part of the base.
  const auto vit = make(test::spec("vit", "head", test::images()));
  const auto all = make(test::spec("vit", "full", test::images()));
  CHECK(vit->base_parameters() + vit->layout().size() == all->layout().size());
}

TEST_CASE("a batch gives the sum of its parts", "[learn][torch]") {
  const test::Pair pair = GENERATE(from_range(test::pairs()));
  INFO(pair.model << " with " << pair.adapter);
  const learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, test::info_for(pair.model));
  const auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner);
  const data::Batch whole = test::batch_for(spec, 4);
  learn::Scores sum;
  for (std::int64_t i = 0; i < 4; ++i) {
    const learn::Scores scores = learner->evaluate(test::example(whole, i));
    sum.loss_sum += scores.loss_sum;
    sum.correct += scores.correct;
    sum.count += scores.count;
  }
  const learn::Scores scores = learner->evaluate(whole);
  CHECK(scores.count == sum.count);
  CHECK(scores.correct == sum.correct);
  CHECK(scores.loss_sum == Approx(sum.loss_sum).epsilon(1e-5));
  CHECK(learner->loss(whole) ==
        Approx(sum.loss_sum / static_cast<double>(sum.count)).epsilon(1e-5));
}
