// model.backbone_dtype: bfloat16.
#include <bit>
#include <cmath>

#include "data/safetensors.hpp"
#include "learn/torch/weights.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;
using test::make, test::require_close;

TEST_CASE("frozen matrices in bfloat16 give nearly the same model", "[learn][torch][bfloat16]") {
  const std::string model = GENERATE("mlp", "vit", "llama", "bert", "gpt2");
  const std::string adapter = GENERATE("lora", "dora", "ia3", "head");
  INFO(model << " with " << adapter);
  learn::LearnerSpec spec = test::spec(model, adapter, test::info_for(model));
  const auto exact = make(spec);
  dynamic_cast<learn::ModelOptions&>(*spec.model.options).backbone_dtype = "bfloat16";
  const auto half = make(spec);
  CHECK(half->base_digest() == exact->base_digest());
  CHECK(half->base_parameters() == exact->base_parameters());
  test::disturb(*exact, 0.1);
  test::disturb(*half, 0.1);
  const data::Batch batch = test::batch_for(spec, 4);
  const Tensor found = half->logits(batch), expected = exact->logits(batch);
  CHECK(test::copy(found.f32()) != test::copy(expected.f32()));
  require_close(found.f32(), expected.f32(), 0.05);
  half->loss_and_gradient(batch);
  exact->loss_and_gradient(batch);
  double difference = 0, length = 0;
  for (std::size_t i = 0; i < exact->gradient().size(); ++i) {
    difference += std::pow(static_cast<double>(half->gradient()[i] - exact->gradient()[i]), 2);
    length += std::pow(static_cast<double>(exact->gradient()[i]), 2);
  }
  CHECK(std::sqrt(difference / length) < 0.06);  // 2^-8 a product, and a dozen of them
}

TEST_CASE("bfloat16 holds matrices, not embeddings", "[learn][torch][bfloat16]") {
  const test::Folder folder;
  learn::LearnerSpec spec = test::spec("llama", "head", test::texts());
  dynamic_cast<learn::ModelOptions&>(*spec.model.options).backbone_dtype = "bfloat16";
  make(spec)->save_adapter(folder.path(), {});
  const auto file = data::Safetensors::open(folder.file("model.safetensors"));
  const auto rounded = [&](const std::string& name) {
    const Tensor tensor = file.f32(name);
    return std::ranges::all_of(tensor.f32(), [](float value) {
      return (std::bit_cast<std::uint32_t>(value) & 0xffff) == 0;
    });
  };
  CHECK(rounded("model.layers.0.self_attn.q_proj.weight"));
  CHECK(rounded("model.layers.1.mlp.down_proj.weight"));
  CHECK_FALSE(rounded("model.embed_tokens.weight"));
  CHECK_FALSE(rounded("lm_head.weight"));
  spec.adapter = config::make_plugin(learn::adapter_kinds(), "full");
  CHECK_THROWS_WITH(make(spec), Contains("no matrix is frozen"));
}
