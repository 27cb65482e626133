// Adapters against their equations, written out one number at a time, and what their options do.
#include <cmath>

#include "data/safetensors.hpp"
#include "learn/torch/weights.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;
using test::make, test::values, test::require_close;

namespace {

// W + scale * B A, in double.
std::vector<double> with_update(const std::vector<float>& w, const std::vector<float>& a,
                                const std::vector<float>& b, std::size_t rank, double scale) {
  const std::size_t in = a.size() / rank, out = b.size() / rank;
  std::vector<double> sum(w.begin(), w.end());
  for (std::size_t o = 0; o < out; ++o) {
    for (std::size_t i = 0; i < in; ++i) {
      for (std::size_t r = 0; r < rank; ++r) {
        sum[o * in + i] +=
            scale * static_cast<double>(b[o * rank + r]) * static_cast<double>(a[r * in + i]);
      }
    }
  }
  return sum;
}

double row_norm(const std::vector<double>& matrix, std::size_t row, std::size_t columns) {
  double sum = 0;
  for (std::size_t c = 0; c < columns; ++c) {
    sum += matrix[row * columns + c] * matrix[row * columns + c];
  }
  return std::sqrt(sum);
}

const std::string kQuery = "vit.encoder.layer.0.attention.attention.query";
const std::string kValue = "vit.encoder.layer.0.attention.attention.value";
const std::string kFc2 = "vit.encoder.layer.0.output.dense";

// The adapter merged by fedctl, read back.
Tensor merged(learn::Learner& learner, const test::Folder& folder, const std::string& name) {
  learner.save_merged(folder.path(), {}, data::Storage::f32);
  return data::Safetensors::open(folder.file("model.safetensors")).f32(name);
}

}  // namespace

TEST_CASE("adapters start from the base's outputs", "[learn][torch][adapters]") {
  const test::Pair pair = GENERATE(from_range(test::pairs()));
  if (pair.adapter == "prompt" || pair.adapter == "prefix") return;
  INFO(pair.model << " with " << pair.adapter);
  const data::DatasetInfo info = test::info_for(pair.model);
  const learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, info);
  const data::Batch batch = test::batch_for(spec, 3);
  const Tensor expected = make(test::spec(pair.model, "full", info))->logits(batch);
  require_close(make(spec)->logits(batch).f32(), expected.f32(), 2e-5);
}

TEST_CASE("a merged adapter gives the same logits", "[learn][torch][adapters]") {
  const test::Pair pair = GENERATE(from_range(test::pairs()));
  if (pair.adapter == "prompt" || pair.adapter == "prefix") return;
  INFO(pair.model << " with " << pair.adapter);
  const test::Folder folder;
  const data::DatasetInfo info = test::info_for(pair.model);
  const learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, info);
  const auto learner = make(spec);
  test::disturb(*learner);
  const data::Batch batch = test::batch_for(spec, 3);
  learner->save_merged(folder.path(), {}, data::Storage::f32);
  const auto plain = make(test::spec(pair.model, "full", info, folder.path()));
  require_close(plain->logits(batch).f32(), learner->logits(batch).f32(), 1e-4);
}

TEST_CASE("merged weights follow the papers' equations", "[learn][torch][adapters]") {
  const std::string adapter = GENERATE("lora", "dora", "ia3", "vera");
  INFO(adapter);
  const test::Folder folder;
  const data::DatasetInfo info = test::info_for("vit");
  const auto base = make(test::spec("vit", "full", info));
  const auto learner = make(test::spec("vit", adapter, info));
  test::disturb(*learner);
  std::vector<float> expected;
  std::string module = kValue;
  const std::vector<float> w = values(*base, module + ".weight");
  if (adapter == "lora" || adapter == "dora") {  // rank 3, alpha 6, 12 by 12
    const std::vector<double> v = with_update(w, values(*learner, module + ".lora_A.weight"),
                                              values(*learner, module + ".lora_B.weight"), 3, 2);
    expected.assign(v.begin(), v.end());
    if (adapter == "dora") {
      const std::vector<float> m = values(*learner, module + ".lora_magnitude_vector");
      for (std::size_t i = 0; i < v.size(); ++i) {
        expected[i] =
            static_cast<float>(static_cast<double>(m[i / 12]) * v[i] / row_norm(v, i / 12, 12));
      }
    }
  } else if (adapter == "vera") {  // rank 5
    learner->save_adapter(folder.file("peft"), {});
    const auto file = data::Safetensors::open(folder.file("peft/adapter_model.safetensors"));
    std::vector<float> a = test::copy(file.f32("base_model.vera_A").f32());
    std::vector<float> b = test::copy(file.f32("base_model.vera_B").f32());
    const std::vector<float> lambda_d = values(*learner, module + ".vera_lambda_d");
    const std::vector<float> lambda_b = values(*learner, module + ".vera_lambda_b");
    for (std::size_t i = 0; i < a.size(); ++i) a[i] *= lambda_d[i / 12];
    for (std::size_t i = 0; i < b.size(); ++i) b[i] *= lambda_b[i / 5];
    const std::vector<double> v = with_update(w, a, b, 5, 1);
    expected.assign(v.begin(), v.end());
  } else {
    const std::vector<float> scale = values(*learner, module + ".ia3_l");
    for (std::size_t i = 0; i < w.size(); ++i) expected.push_back(w[i] * scale[i / 12]);
    const Tensor bias = merged(*learner, folder, module + ".bias");
    for (const float value : bias.f32()) CHECK(value == 0);           // of zeros
    const std::vector<float> wide = values(*base, kFc2 + ".weight");  // 12 by 10
    const std::vector<float> inner = values(*learner, kFc2 + ".ia3_l");
    std::vector<float> fc2;
    for (std::size_t i = 0; i < wide.size(); ++i) fc2.push_back(wide[i] * inner[i % 10]);
    require_close(merged(*learner, folder, kFc2 + ".weight").f32(), fc2, 1e-6);
  }
  require_close(merged(*learner, folder, module + ".weight").f32(), expected, 1e-5);
}

// A DoRA layer at one point is a LoRA layer whose W and B have rows scaled by m / |V|: with |V|
// held constant their gradients agree.
TEST_CASE("DoRA's gradient takes the norm as a constant", "[learn][torch][adapters]") {
  const test::Folder folder;
  const data::DatasetInfo info = test::info_for("mlp");
  const auto dora = make(test::spec("mlp", "dora", info));
  test::disturb(*dora);
  const auto base = make(test::spec("mlp", "full", info));
  base->save_adapter(folder.path(), {});
  test::Values model;
  std::map<std::string, std::vector<float>> factors, b_scaled;
  for (const Block& block : base->layout().blocks()) {
    model[block.name] = {block.shape, values(*base, block.name)};
  }
  for (const std::string module : {"layers.0", "layers.1"}) {
    auto& [shape, w] = model.at(module + ".weight");
    const auto in = static_cast<std::size_t>(shape[1]);
    std::vector<float>& b = b_scaled[module] = values(*dora, module + ".lora_B.weight");
    const std::vector<double> v = with_update(w, values(*dora, module + ".lora_A.weight"), b, 3, 2);
    const std::vector<float> m = values(*dora, module + ".lora_magnitude_vector");
    for (std::size_t o = 0; o < m.size(); ++o) {
      factors[module].push_back(static_cast<float>(m[o] / row_norm(v, o, in)));
    }
    for (std::size_t i = 0; i < w.size(); ++i) w[i] *= factors[module][i / in];
    for (std::size_t i = 0; i < b.size(); ++i) b[i] *= factors[module][i / 3];
  }
  test::write_file(folder.file("model.safetensors"), test::safetensors(model, "F32"));
  const auto twin = make(test::spec("mlp", "lora", info, folder.path()));
  for (const Block& block : twin->layout().blocks()) {
    test::set(*twin, block.name, values(*dora, block.name));
  }
  for (const auto& [module, b] : b_scaled) test::set(*twin, module + ".lora_B.weight", b);

  const data::Batch batch = test::image_batch(info, 4);
  const double loss = dora->loss_and_gradient(batch);
  CHECK(loss == Approx(twin->loss_and_gradient(batch)).epsilon(1e-5));
  for (const Block& block : twin->layout().blocks()) {
    CAPTURE(block.name);
    std::vector<float> expected = test::gradient(*twin, block.name);
    for (const auto& [module, f] : factors) {
      if (block.name != module + ".lora_B.weight") continue;
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] *= f[i / 3];
    }
    require_close(test::gradient(*dora, block.name), expected, 1e-4);
  }
}

TEST_CASE("rsLoRA divides by the root of the rank", "[learn][torch][adapters]") {
  learn::LearnerSpec root = test::spec("vit", "lora", test::images());
  test::lora(root).rank = 4;
  test::lora(root).alpha = 8;
  test::lora(root).rslora = true;
  learn::LearnerSpec plain = test::spec("vit", "lora", test::images());
  test::lora(plain).rank = 4;
  test::lora(plain).alpha = 16;
  const auto first = make(root), second = make(plain);
  test::disturb(*first);
  std::ranges::copy(first->weights(), second->weights().begin());
  const data::Batch batch = test::batch_for(root, 2);
  CHECK(test::copy(first->logits(batch).f32()) == test::copy(second->logits(batch).f32()));
}

TEST_CASE("targets and ranks go by name or by pattern", "[learn][torch][adapters]") {
  learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  test::lora(spec).targets = {"query", "vit.encoder.layer.1.*.dense"};
  test::lora(spec).ranks = {"query=2", "*.output.dense=4:10"};
  const auto learner = make(spec);
  const auto rank = [&](const std::string& module) {
    return learner->layout().block(module + ".lora_A.weight").shape[0];
  };
  CHECK(rank(kQuery) == 2);
  CHECK(rank("vit.encoder.layer.1.attention.output.dense") == 4);
  CHECK(rank("vit.encoder.layer.1.output.dense") == 4);
  CHECK(rank("vit.encoder.layer.1.intermediate.dense") == 3);
  CHECK_FALSE(test::has(*learner, kValue + ".lora_A.weight"));
  CHECK_FALSE(test::has(*learner, kFc2 + ".lora_A.weight"));

  const test::Folder folder;
  learner->save_adapter(folder.path(), {});
  const auto config = nlohmann::json::parse(test::read_file(folder.file("adapter_config.json")));
  CHECK(config["rank_pattern"].size() == 4);
  CHECK(config["rank_pattern"]["vit.layers.0.attention.q_proj"] == 2);
  CHECK(config["rank_pattern"]["vit.layers.1.mlp.fc2"] == 4);
  CHECK(config["alpha_pattern"] ==
        nlohmann::json{{"vit.layers.1.attention.o_proj", 10.0}, {"vit.layers.1.mlp.fc2", 10.0}});
  CHECK(config["use_rslora"] == false);
}

TEST_CASE("targets and ranks that mean nothing are refused", "[learn][torch][adapters]") {
  const auto refused = [](const std::vector<std::string>& targets,
                          const std::vector<std::string>& ranks, const std::string& reason) {
    learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
    test::lora(spec).targets = targets;
    test::lora(spec).ranks = ranks;
    INFO(reason);
    CHECK_THROWS_AS(make(spec), ConfigError);
    CHECK_THROWS_WITH(make(spec), Contains(reason));
  };
  refused({"query", "vit.layers.*"}, {}, "\"vit.layers.*\", which fits no layer");
  refused({"classifier.*"}, {}, "fits no layer");
  refused({"query"}, {"*.gate_proj=2"}, "adapter.ranks has the pattern");
  refused({"query"}, {"gate=2"}, "adapter.ranks names \"gate\"");
  refused({"query"}, {"query"}, "no target and =");
  refused({"query"}, {"=3"}, "no target and =");
  refused({"query"}, {"query=0"}, "rank must be in");
  refused({"query"}, {"query=-1"}, "rank must be in");
  refused({"query"}, {"query=x"}, "rank must be in");
  refused({"query"}, {"query=99999999999999999999"}, "rank must be in");
  refused({"query"}, {"query=4 "}, "expected :");
  refused({"query"}, {"query=4:"}, "alpha must be in");
  refused({"query"}, {"query=4:nan"}, "alpha must be in");
  refused({"query"}, {"query=4:8x"}, "alpha must be in");
  refused({}, {}, "adapter.targets is empty");
  CHECK_THROWS_AS(make(test::spec("mlp", "prefix", test::images())), ConfigError);
  learn::LearnerSpec ia3 = test::spec("mlp", "ia3", test::images());
  dynamic_cast<learn::Ia3Options&>(*ia3.adapter.options).feedforward.clear();
  CHECK_THROWS_WITH(make(ia3), Contains("adapter.targets is empty"));
  learn::LearnerSpec bitfit = test::spec("llama", "bitfit", test::texts());
  dynamic_cast<learn::BitfitOptions&>(*bitfit.adapter.options).train_head = false;
  CHECK_THROWS_WITH(make(bitfit), Contains("nothing to train"));
}

TEST_CASE("only what is trained has a place in the vectors", "[learn][torch][adapters]") {
  const auto size = [](const char* model, const char* adapter) {
    const auto learner = make(test::spec(model, adapter, test::info_for(model)));
    CHECK(learner->gradient().size() == learner->layout().size());
    const auto all = make(test::spec(model, "full", test::info_for(model)));
    // A tied output layer is trained as a copy, its embedding stays frozen.
    CHECK(learner->base_parameters() <= all->layout().size());
    CHECK(learner->base_parameters() + learner->layout().size() >= all->layout().size());
    return learner->layout().size();
  };
  const std::size_t head = 3 * 12 + 3, llama_head = 19 * 16;
  CHECK(size("vit", "lora") == head + 2 * 2 * 3 * 24);
  CHECK(size("vit", "dora") == head + 2 * 2 * (3 * 24 + 12));
  CHECK(size("vit", "ia3") == head + 2 * (12 + 12 + 10));
  CHECK(size("vit", "vera") == head + 2 * 2 * (12 + 5));
  CHECK(size("vit", "prefix") == head + 3 * 2 * 2 * 12);
  CHECK(size("vit", "bitfit") == head + 12 + 2 * (4 * 12 + 10 + 12 + 2 * 12) + 12);
  CHECK(size("llama", "prefix") == llama_head + 3 * 2 * 2 * 8);
  CHECK(size("llama", "ia3") == llama_head + 2 * (8 + 8 + 20));
}
