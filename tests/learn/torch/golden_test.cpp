// Loss, logits and gradients of tiny models as PyTorch, transformers and peft compute them
// (scripts/golden/models.py), and as the families here do.
#include <cmath>
#include <nlohmann/json.hpp>

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
  if (golden.contains("pixels")) batch["pixels"] = golden.f32("pixels");
  for (const char* name : {"tokens", "lengths", "segments", "labels"}) {
    if (golden.contains(name)) batch[name] = golden.i64(name);
  }
  return batch;
}

data::DatasetInfo info_of(const nlohmann::json& config, const data::Batch& batch) {
  data::DatasetInfo info;
  if (const auto pixels = batch.find("pixels"); pixels != batch.end()) {
    info.input_shape = {pixels->second.shape.begin() + 1, pixels->second.shape.end()};
  } else {
    info.vocabulary = config["vocab_size"];
  }
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

// The layers whose module has one of PEFT's names, in our words.
std::vector<std::string> targets_of(const std::string& kind, const nlohmann::json& config) {
  static const std::map<std::string, std::string> kWords = {
      {"q_proj", "query"},   {"v_proj", "value"}, {"query", "query"}, {"value", "value"},
      {"down_proj", "down"}, {"c_attn", "qkv"},   {"c_fc", "fc1"}};
  INFO(kind);
  std::vector<std::string> targets;
  for (const std::string name : config["target_modules"]) targets.push_back(kWords.at(name));
  return targets;
}

void compare(learn::Learner& learner, const data::Safetensors& golden, const data::Batch& batch,
             const std::string& prefix) {
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
  CHECK(compared > 0);
}

}  // namespace

TEST_CASE("models compute what PyTorch computes", "[learn][torch][golden]") {
  std::size_t models = 0;
  for (const auto& entry : fs::directory_iterator(FEDCTL_SOURCE_DIR "/tests/golden/models")) {
    const std::string folder = entry.path().string();
    INFO(folder);
    const nlohmann::json config = json_file(entry.path() / "config.json");
    const std::string kind = config["model_type"];
    const auto golden = data::Safetensors::open(folder + "/golden.safetensors");
    const data::Batch batch = batch_of(golden);
    const data::DatasetInfo info = info_of(config, batch);
    {
      INFO("full");
      const auto learner = learn::make_factory(test::spec(kind, "full", info, folder))->make();
      compare(*learner, golden, batch, "full.");
    }
    if (fs::exists(folder + "/lora")) {
      INFO("lora");
      const nlohmann::json adapter = json_file(folder + "/lora/adapter_config.json");
      learn::LearnerSpec spec = test::spec(kind, "lora", info, folder);
      auto& options = dynamic_cast<learn::LoraOptions&>(*spec.adapter.options);
      options.rank = adapter["r"];
      options.alpha = adapter["lora_alpha"];
      options.targets = targets_of(kind, adapter);
      options.train_head = !adapter["modules_to_save"].is_null();
      options.path = folder + "/lora";
      compare(*learn::make_factory(spec)->make(), golden, batch, "lora.");
    }
    if (fs::exists(folder + "/prompt")) {
      INFO("prompt");
      learn::LearnerSpec spec = test::spec(kind, "prompt", info, folder);
      auto& options = dynamic_cast<learn::PromptOptions&>(*spec.adapter.options);
      options.tokens = json_file(folder + "/prompt/adapter_config.json")["num_virtual_tokens"];
      options.train_head = false;
      options.path = folder + "/prompt";
      compare(*learn::make_factory(spec)->make(), golden, batch, "prompt.");
    }
    if (fs::exists(folder + "/prefix")) {
      INFO("prefix");
      learn::LearnerSpec spec = test::spec(kind, "prefix", info, folder);
      auto& options = dynamic_cast<learn::PrefixOptions&>(*spec.adapter.options);
      options.tokens = json_file(folder + "/prefix/adapter_config.json")["num_virtual_tokens"];
      options.train_head = false;
      options.path = folder + "/prefix";
      compare(*learn::make_factory(spec)->make(), golden, batch, "prefix.");
    }
    ++models;
  }
  CHECK(models == 5);
}
