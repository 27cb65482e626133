// Adapter folders coming in, ours and Python's peft's, correct or damaged on purpose.
#include <cmath>

#include "data/safetensors.hpp"
#include "learn/torch/model_files.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

constexpr const char* kWeights = "adapter_model.safetensors";

// As test::spec(), but from the adapter in `folder`. Copies of a spec share their options, so it is
// made anew.
learn::LearnerSpec starting_from(const test::Pair& pair, const data::DatasetInfo& info,
                                 const std::string& folder) {
  learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, info);
  dynamic_cast<learn::AdapterOptions&>(*spec.adapter.options).path = folder;
  return spec;
}

// A trained llama with this adapter, saved to `folder`.
std::unique_ptr<learn::Learner> saved(const learn::LearnerSpec& spec, const std::string& folder) {
  auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner);
  learner->save_adapter(folder, {{"round", "3"}});
  return learner;
}

test::Values tensors_of(const std::string& path) {
  const auto file = data::Safetensors::open(path);
  test::Values values;
  for (const std::string& name : file.names()) {
    const Tensor tensor = file.f32(name);
    values[name] = {tensor.shape, test::copy(tensor.f32())};
  }
  return values;
}

}  // namespace

TEST_CASE("training starts from an adapter that was saved", "[learn][torch][peft]") {
  const test::Pair pair = GENERATE(
      test::Pair{"vit", "lora"}, test::Pair{"llama", "lora"}, test::Pair{"vit", "prompt"},
      test::Pair{"llama", "prompt"}, test::Pair{"vit", "prefix"}, test::Pair{"llama", "prefix"},
      test::Pair{"bert", "dora"}, test::Pair{"llama", "ia3"}, test::Pair{"vit", "vera"});
  INFO(pair.model << " with " << pair.adapter);
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, test::info_for(pair.model));
  const auto original = saved(spec, folder.path());
  const auto factory = learn::make_factory(starting_from(pair, spec.data, folder.path()));
  const auto first = factory->make(), second = factory->make();
  CHECK(test::copy(first->weights()) == test::copy(original->weights()));
  CHECK(test::copy(second->weights()) == test::copy(original->weights()));
  // Two parties that start from different adapters must not think they agree.
  CHECK(first->base_digest() != original->base_digest());

  const auto fresh = learn::make_factory(spec)->make();
  fresh->load_adapter(folder.path());
  CHECK(test::copy(fresh->weights()) == test::copy(original->weights()));
}

TEST_CASE("VeRA's projections must be those of the experiment", "[learn][torch][peft]") {
  const test::Folder folder;
  saved(test::spec("vit", "vera", test::images()), folder.path());
  const auto other = learn::make_factory(test::spec("vit", "vera", test::images(), "", 8))->make();
  CHECK_THROWS_WITH(other->load_adapter(folder.path()),
                    Contains("base_model.vera_A") && Contains("is not the one of this experiment"));
  CHECK_THROWS_AS(other->load_adapter(folder.path()), DataError);
}

TEST_CASE("a whole model is loaded into full, head and bitfit", "[learn][torch][peft]") {
  const std::string adapter = GENERATE("full", "head", "bitfit");
  const test::Folder folder;
  const learn::LearnerSpec spec =
      test::spec(adapter == "bitfit" ? "gpt2" : "llama", adapter, test::texts());
  const auto original = saved(spec, folder.path());
  const auto fresh = learn::make_factory(spec)->make();
  fresh->load_adapter(folder.path());
  CHECK(test::copy(fresh->weights()) == test::copy(original->weights()));
}

TEST_CASE("PEFT's names for a module trained as a whole are understood", "[learn][torch][peft]") {
  const std::string name =
      GENERATE("base_model.classifier.", "base_model.model.classifier.modules_to_save.",
               "base_model.model.classifier.modules_to_save.default.");
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  const auto original = saved(spec, folder.path());
  test::Values values = tensors_of(folder.file(kWeights));
  for (const char* part : {"weight", "bias"}) {
    auto node = values.extract(std::string("base_model.model.classifier.") + part);
    node.key() = name + part;
    values.insert(std::move(node));
  }
  test::write_file(folder.file(kWeights), test::safetensors(values, "F32"));
  const auto loaded =
      learn::make_factory(starting_from({"vit", "lora"}, spec.data, folder.path()))->make();
  CHECK(test::copy(loaded->weights()) == test::copy(original->weights()));
}

TEST_CASE("names from before transformers 5 are understood", "[learn][torch][peft]") {
  const test::Folder folder;
  learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  const std::vector<std::string> all = {"query", "key", "value", "output", "fc1", "fc2"};
  dynamic_cast<learn::LoraOptions&>(*spec.adapter.options).targets = all;
  const auto original = saved(spec, folder.path());
  const auto fresh = learn::make_factory(spec)->make();
  fresh->load_adapter(folder.path());
  CHECK(test::copy(fresh->weights()) == test::copy(original->weights()));

  test::Values old;
  for (const Block& block : original->layout().blocks()) {
    old["base_model.model." + block.name] = {
        block.shape, test::copy(original->weights().subspan(block.offset, block.count))};
  }
  test::write_file(folder.file(kWeights), test::safetensors(old, "F32"));
  const auto again = learn::make_factory(spec)->make();
  again->load_adapter(folder.path());
  CHECK(test::copy(again->weights()) == test::copy(original->weights()));
}

TEST_CASE("an adapter without the output layer leaves it as it was", "[learn][torch][peft]") {
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  learn::LearnerSpec headless = test::spec("vit", "lora", test::images());
  dynamic_cast<learn::LoraOptions&>(*headless.adapter.options).train_head = false;
  const auto original = saved(headless, folder.path());
  const auto fresh = learn::make_factory(spec)->make();
  const auto loaded =
      learn::make_factory(starting_from({"vit", "lora"}, spec.data, folder.path()))->make();
  for (const Block& block : loaded->layout().blocks()) {
    CAPTURE(block.name);
    const auto found = test::copy(loaded->weights().subspan(block.offset, block.count));
    if (block.group == "head") {
      CHECK(found == test::copy(fresh->weights().subspan(block.offset, block.count)));
    } else {
      const Block& twin = original->layout().block(block.name);
      CHECK(found == test::copy(original->weights().subspan(twin.offset, twin.count)));
    }
  }
}

TEST_CASE("bad adapter folders are refused, file and key named", "[learn][torch][peft][files]") {
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("llama", "lora", test::texts());
  saved(spec, folder.path());
  const std::string config = test::read_file(folder.file("adapter_config.json"));
  const test::Values values = tensors_of(folder.file(kWeights));
  const std::string whole = test::read_file(folder.file(kWeights));
  const std::string name = "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight";
  REQUIRE(values.contains(name));

  const auto require_bad = [&](const char* file, const std::string& reason) {
    const auto learner = learn::make_factory(spec)->make();
    const std::vector<float> before = test::copy(learner->weights());
    INFO(reason);
    REQUIRE_THROWS_WITH(
        learn::make_factory(starting_from({"llama", "lora"}, spec.data, folder.path())),
        Contains(folder.file(file)) && Contains(reason));
    REQUIRE_THROWS_AS(learner->load_adapter(folder.path()), DataError);
    CHECK(test::copy(learner->weights()) == before);  // nothing half loaded
  };
  const auto bad_config = [&](const std::string& text, const std::string& reason) {
    test::write_file(folder.file("adapter_config.json"), text);
    require_bad("adapter_config.json", reason);
    test::write_file(folder.file("adapter_config.json"), config);
  };
  const auto with = [&](const std::string& key, const nlohmann::json& value) {
    nlohmann::json changed = nlohmann::json::parse(config);
    changed[key] = value;
    return changed.dump();
  };
  bad_config("", "not a JSON object");
  bad_config("[]", "not a JSON object");
  bad_config(std::string(100000, '['), "nested too deeply");
  bad_config(std::string((1 << 20) + 1, ' '), "at most");
  bad_config(with("peft_type", "PREFIX_TUNING"), "peft_type is \"PREFIX_TUNING\", expected LORA");
  bad_config(with("peft_type", 7), "peft_type is missing or no text");
  bad_config(with("r", 4), "r is 4, expected 3 (adapter.rank)");
  bad_config(with("r", nullptr), "r is missing or no number");
  bad_config(with("use_dora", true), "use_dora is true, expected false");
  bad_config(with("use_rslora", true), "use_rslora is true, expected false");
  bad_config(with("rank_pattern", {{"q_proj", 5}}), "rank_pattern is not empty");
  bad_config(with("lora_alpha", 7.5), "lora_alpha is 7.5, expected 6 (adapter.alpha)");

  const auto bad_values = [&](const std::function<void(test::Values&)>& damage,
                              const std::string& reason) {
    test::Values damaged = values;
    damage(damaged);
    test::write_file(folder.file(kWeights), test::safetensors(damaged, "F32"));
    require_bad(kWeights, reason);
  };
  bad_values([&](test::Values& v) { v.erase(name); }, "no tensor \"" + name);
  bad_values([&](test::Values& v) { v[name].first = {16, 3}; }, "is [16,3], expected [3,16]");
  bad_values([&](test::Values& v) { v[name].second[5] = std::nanf(""); },
             name + "\": value 5 is not finite");
  bad_values(
      [&](test::Values& v) {
        v["base_model.model.x.lora_A.weight"] = {{1}, {1}};
      },
      "\"base_model.model.x.lora_A.weight\" is no part of this adapter");
  const auto bad_bytes = [&](const std::string& bytes, const std::string& reason) {
    test::write_file(folder.file(kWeights), bytes);
    require_bad(kWeights, reason);
  };
  bad_bytes("", "shorter than 8 bytes");
  bad_bytes(whole.substr(0, whole.size() - 1), "outside the data");
  std::string huge = whole;
  const std::uint64_t claim = std::uint64_t{100} << 30;
  std::memcpy(huge.data(), &claim, sizeof claim);
  bad_bytes(huge, "header claims 107374182400 bytes");

  std::filesystem::remove(folder.file(kWeights));
  require_bad(kWeights, "no such file");
  test::write_file(folder.file("adapter_model.bin"), "\x80\x02");
  require_bad("adapter_model.bin", "pickled files are not read");
  std::filesystem::remove(folder.file("adapter_config.json"));
  require_bad("adapter_config.json", "cannot be read");
  REQUIRE_THROWS_WITH(
      learn::make_factory(starting_from({"llama", "lora"}, spec.data, folder.file("absent"))),
      Contains("absent: no such folder"));
}

TEST_CASE("LoRA merged into the weights gives the same logits", "[learn][torch][peft]") {
  const std::string model = GENERATE("mlp", "vit", "llama", "gpt2", "bert");
  const bool train_head = GENERATE(true, false);
  INFO(model << (train_head ? " with its head" : ""));
  const test::Folder folder;
  learn::LearnerSpec spec = test::spec(model, "lora", test::info_for(model));
  dynamic_cast<learn::LoraOptions&>(*spec.adapter.options).train_head = train_head;
  const auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner);
  learner->save_merged(folder.path(), {{"run", "r"}, {"round", "2"}}, data::Storage::f32);
  const data::Batch batch = test::batch_for(spec, 3);
  const Tensor expected = learner->logits(batch);
  const auto merged =
      learn::make_factory(test::spec(model, "full", test::info_for(model), folder.path()))->make();
  const Tensor found = merged->logits(batch);
  REQUIRE(found.shape == expected.shape);
  for (std::size_t i = 0; i < found.f32().size(); ++i) {
    REQUIRE(found.f32()[i] == Approx(expected.f32()[i]).margin(1e-5));
  }
  CHECK(data::Safetensors::open(folder.file("model.safetensors")).metadata().at("round") == "2");

  learner->save_merged(folder.file("half"), {}, data::Storage::bf16);
  const auto half =
      learn::make_factory(test::spec(model, "full", test::info_for(model), folder.file("half")))
          ->make();
  for (std::size_t i = 0; i < half->weights().size(); ++i) {
    REQUIRE(half->weights()[i] == Approx(merged->weights()[i]).epsilon(1.0 / 256).margin(1e-30));
  }
  CHECK(std::filesystem::file_size(folder.file("half/model.safetensors")) <
        std::filesystem::file_size(folder.file("model.safetensors")));
}

TEST_CASE("a prompt cannot be merged", "[learn][torch][peft]") {
  const test::Folder folder;
  const auto learner = learn::make_factory(test::spec("vit", "prompt", test::images()))->make();
  CHECK_THROWS_AS(learner->save_merged(folder.path(), {}, data::Storage::f32), ConfigError);
  CHECK_THROWS_WITH(learner->save_merged(folder.path(), {}, data::Storage::f32),
                    Contains("adapter.kind is prompt"));
}
