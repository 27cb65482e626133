// Loss, logits and gradients of tiny models as PyTorch, transformers and peft compute them
// (scripts/golden/models.py, adapters.py, families.py), and as the families here do.
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "data/safetensors.hpp"
#include "learn/torch/models.hpp"

using namespace fedctl;
namespace fs = std::filesystem;

namespace {

constexpr double kRelative = 1e-4;

// The largest difference, in units of the largest value expected, or of 1e-3 where all are smaller:
// a key's bias has no gradient but for rounding.
double distance(std::span<const float> found, std::span<const float> expected) {
  REQUIRE(found.size() == expected.size());
  double most = 0, largest = 1e-3;
  for (std::size_t i = 0; i < found.size(); ++i) {
    most = std::max(most, std::fabs(static_cast<double>(found[i]) - expected[i]));
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
  }
  return most / largest;
}

nlohmann::json json_file(const fs::path& path) {
  return nlohmann::json::parse(test::read_file(path.string()));
}

data::Batch batch_of(const data::Safetensors& golden) {
  data::Batch batch;
  for (const char* name : {"pixels", "features"}) {
    if (golden.contains(name)) batch[name] = golden.f32(name);
  }
  for (const char* name : {"tokens", "lengths", "segments", "labels"}) {
    if (golden.contains(name)) batch[name] = golden.i64(name);
  }
  return batch;
}

data::DatasetInfo info_of(const nlohmann::json& config, const data::Batch& batch) {
  data::DatasetInfo info;
  for (const char* name : {"pixels", "features"}) {
    if (const auto inputs = batch.find(name); inputs != batch.end()) {
      info.input_shape = {inputs->second.shape.begin() + 1, inputs->second.shape.end()};
    }
  }
  if (batch.contains("tokens")) info.vocabulary = config["vocab_size"];
  const bool classify =
      batch.at("labels").shape[0] != (batch.contains("tokens") ? batch.at("tokens").shape[0] : 0);
  info.task = classify ? data::Task::classify : data::Task::language;
  if (classify) {
    for (std::size_t i = 0; i < config["id2label"].size(); ++i) {
      info.classes.push_back(config["id2label"][std::to_string(i)]);
    }
  }
  return info;
}

// Modules by PEFT's names, in our words.
std::vector<std::string> words_of(const nlohmann::json& modules) {
  static const std::map<std::string, std::string> kWords = {{"q_proj", "query"},
                                                            {"k_proj", "key"},
                                                            {"v_proj", "value"},
                                                            {"query", "query"},
                                                            {"key", "key"},
                                                            {"value", "value"},
                                                            {"down_proj", "down"},
                                                            {"fc2", "fc2"},
                                                            {"layer.0.output.dense", "fc2"},
                                                            {"layer.1.output.dense", "fc2"},
                                                            {"c_attn", "qkv"},
                                                            {"c_fc", "fc1"},
                                                            {"mlp.c_proj", "fc2"}};
  std::set<std::string> words;
  for (const std::string name : modules) words.insert(kWords.at(name));
  return {words.begin(), words.end()};
}

// A tiny model's folder and what the scripts computed of it.
struct Golden {
  std::string folder, kind;
  nlohmann::json config;
  data::Safetensors values;
  data::Batch batch;
  data::DatasetInfo info;

  explicit Golden(const std::string& path)
      : folder(path),
        config(json_file(path + "/config.json")),
        values(data::Safetensors::open(path + "/golden.safetensors")),
        batch(batch_of(values)),
        info(info_of(config, batch)) {
    const std::string type = config["model_type"], ours = "fedctl_";
    kind = type.starts_with(ours) ? type.substr(ours.size()) : type;
  }

  // With this adapter's options as PEFT's folder has them.
  learn::LearnerSpec spec(const std::string& adapter) const {
    learn::LearnerSpec spec = test::spec(kind, adapter, info, folder);
    const std::string path = folder + '/' + adapter;
    const nlohmann::json saved = json_file(path + "/adapter_config.json");
    const bool head = saved.contains("modules_to_save") && !saved["modules_to_save"].is_null();
    config::Options* options = spec.adapter.options.get();
    if (auto* lora = dynamic_cast<learn::LoraOptions*>(options)) {
      lora->rank = saved["r"];
      lora->alpha = saved["lora_alpha"];
      lora->targets = words_of(saved["target_modules"]);
      lora->train_head = head;
    } else if (auto* ia3 = dynamic_cast<learn::Ia3Options*>(options)) {
      ia3->feedforward = words_of(saved["feedforward_modules"]);
      for (const std::string& word : words_of(saved["target_modules"])) {
        if (std::ranges::find(ia3->feedforward, word) == ia3->feedforward.end()) {
          ia3->targets.push_back(word);
        }
      }
      ia3->train_head = head;
    } else if (auto* vera = dynamic_cast<learn::VeraOptions*>(options)) {
      vera->rank = saved["r"];
      vera->targets = words_of(saved["target_modules"]);
      vera->train_head = head;
    } else if (auto* prompt = dynamic_cast<learn::PromptOptions*>(options)) {
      prompt->tokens = saved["num_virtual_tokens"];
      prompt->train_head = false;
    } else if (auto* prefix = dynamic_cast<learn::PrefixOptions*>(options)) {
      prefix->tokens = saved["num_virtual_tokens"];
      prefix->train_head = false;
    }
    dynamic_cast<learn::AdapterOptions&>(*options).path = path;
    return spec;
  }
};

std::vector<std::string> golden_folders() {
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(FEDCTL_SOURCE_DIR "/tests/golden/models")) {
    folders.push_back(entry.path().string());
  }
  std::ranges::sort(folders);
  return folders;
}

// All gradients, or those that bitfit has: of the biases and of an output layer of its own.
void compare(learn::Learner& learner, const data::Safetensors& golden, const data::Batch& batch,
             const std::string& prefix, bool all = true) {
  const float loss = golden.f32(prefix + "loss").f32()[0];
  CHECK(learner.loss_and_gradient(batch) == Approx(loss).epsilon(kRelative));
  CHECK(distance(learner.logits(batch).f32(), golden.f32(prefix + "logits").f32()) < kRelative);
  std::size_t compared = 0;
  for (const Block& block : learner.layout().blocks()) {
    INFO(block.name);
    const Tensor expected = golden.f32(prefix + "grad." + block.name);
    CHECK(expected.shape == block.shape);
    CHECK(distance(learner.gradient().subspan(block.offset, block.count), expected.f32()) <
          kRelative);
    ++compared;
  }
  // Nothing that PyTorch trains is missing here.
  const auto expected = std::ranges::count_if(golden.names(), [&](const std::string& name) {
    const bool some = name.ends_with(".bias") || name.ends_with(".classifier.weight") ||
                      name.ends_with(".head.weight");
    return name.starts_with(prefix + "grad.") && (all || some);
  });
  CHECK(compared == static_cast<std::size_t>(expected));
  CHECK(compared > 0);
}

}  // namespace

TEST_CASE("models compute what PyTorch computes", "[learn][torch][golden]") {
  std::size_t models = 0;
  for (const std::string& folder : golden_folders()) {
    INFO(folder);
    const Golden golden(folder);
    const auto learner =
        learn::make_factory(test::spec(golden.kind, "full", golden.info, folder))->make();
    compare(*learner, golden.values, golden.batch, "full.");
    ++models;
  }
  CHECK(models == 8);
}

TEST_CASE("adapters compute what peft computes", "[learn][torch][golden]") {
  std::map<std::string, int> compared;
  for (const std::string& folder : golden_folders()) {
    const Golden golden(folder);
    for (const std::string adapter : {"lora", "prompt", "prefix", "dora", "ia3", "vera"}) {
      if (!fs::exists(folder + '/' + adapter)) continue;
      INFO(folder + ' ' + adapter);
      const auto learner = learn::make_factory(golden.spec(adapter))->make();
      const bool apart = adapter == "dora" || adapter == "ia3" || adapter == "vera";
      const auto values = data::Safetensors::open(
          folder + (apart ? "/adapters.safetensors" : "/golden.safetensors"));
      compare(*learner, values, golden.batch, adapter + '.');
      ++compared[adapter];
    }
  }
  const std::map<std::string, int> expected = {{"dora", 5},   {"ia3", 5},    {"lora", 5},
                                               {"prefix", 2}, {"prompt", 2}, {"vera", 5}};
  CHECK(compared == expected);
}

// Before anything is trained bitfit is the model itself: its gradients are those of full training.
TEST_CASE("bitfit trains the biases, with PyTorch's gradients", "[learn][torch][golden]") {
  for (const std::string& folder : golden_folders()) {
    const Golden golden(folder);
    if (golden.kind == "llama") continue;  // has no biases
    INFO(folder);
    learn::LearnerSpec spec = test::spec(golden.kind, "bitfit", golden.info, folder);
    // gpt2's output layer is its embedding.
    dynamic_cast<learn::BitfitOptions&>(*spec.adapter.options).train_head = golden.kind != "gpt2";
    const auto learner = learn::make_factory(spec)->make();
    compare(*learner, golden.values, golden.batch, "full.", /*all=*/false);
  }
}

// VeRA's matrices for scripts/golden/adapters.py, which has no generator that draws them.
TEST_CASE("write VeRA's frozen matrices for the goldens", "[.projections]") {
  const std::map<std::string, std::vector<std::string>> kTargets = {
      {"bert", {"query", "value"}},
      {"gpt2", {"qkv"}},
      {"llama", {"query", "value", "down"}},
      {"vit", {"query", "value"}}};
  for (const std::string& folder : golden_folders()) {
    const Golden golden(folder);
    if (!kTargets.contains(golden.kind)) continue;
    learn::LearnerSpec spec = test::spec(golden.kind, "vera", golden.info, folder);
    auto& options = dynamic_cast<learn::VeraOptions&>(*spec.adapter.options);
    options.rank = 5;
    options.targets = kTargets.at(golden.kind);
    options.train_head = false;
    fs::create_directories(folder + "/vera");
    learn::make_factory(spec)->make()->save_adapter(folder + "/vera", {});
  }
}
