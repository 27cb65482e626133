#include "learn/torch/save.hpp"

#include <filesystem>
#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

namespace fedctl::learn {
namespace {

using Json = nlohmann::ordered_json;

void write_text(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << text << '\n';
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(temporary, path, error);
  if (!out || error) throw DataError(path + ": cannot be written", "check permissions and free space");
}

std::map<std::string, Tensor> trained(const Saved& saved, const std::string& prefix) {
  std::map<std::string, Tensor> tensors;
  for (const Block& block : saved.layout.blocks()) {
    const std::string name = block.group == "prompt" ? block.name : prefix + block.name;
    tensors[name] = Tensor::of(saved.weights.subspan(block.offset, block.count), block.shape);
  }
  return tensors;
}

// PEFT names target modules by the last part of their path, or several parts where that is ambiguous.
Json target_modules(const Saved& saved, const LoraOptions& lora) {
  Json modules = Json::array();
  for (const Target& target : family(saved.spec.model.kind).targets) {
    if (std::ranges::find(lora.targets, target.name) == lora.targets.end()) continue;
    const std::size_t dot = target.module.rfind('.');
    const std::string leaf = dot == std::string::npos ? target.module : target.module.substr(dot + 1);
    modules.push_back(leaf == "dense" ? target.module : leaf);
  }
  return modules;
}

Json adapter_config(const Saved& saved) {
  Json config;
  config["base_model_name_or_path"] = dynamic_cast<const ModelOptions&>(*saved.spec.model.options).path;
  config["inference_mode"] = true;
  config["task_type"] = saved.family.task_type();
  bool has_head = false;
  for (const Block& block : saved.layout.blocks()) has_head = has_head || block.group == "head";
  config["modules_to_save"] = has_head ? Json::array({"classifier"}) : Json(nullptr);
  if (const auto* lora = dynamic_cast<const LoraOptions*>(saved.spec.adapter.options.get())) {
    config["peft_type"] = "LORA";
    config["r"] = lora->rank;
    config["lora_alpha"] = lora->alpha;
    config["lora_dropout"] = 0.0;
    config["bias"] = "none";
    config["fan_in_fan_out"] = false;
    config["target_modules"] = target_modules(saved, *lora);
  }
  if (const auto* prompt = dynamic_cast<const PromptOptions*>(saved.spec.adapter.options.get())) {
    config["peft_type"] = "PROMPT_TUNING";
    config["num_virtual_tokens"] = prompt->tokens;
    for (const Block& block : saved.layout.blocks()) {
      if (block.group == "prompt") config["token_dim"] = block.shape[1];
    }
  }
  return config;
}

}  // namespace

void save_folder(const Saved& saved) {
  std::error_code error;
  std::filesystem::create_directories(saved.folder, error);
  if (error) throw DataError(saved.folder + ": cannot be made: " + error.message());
  const std::string& kind = saved.spec.adapter.kind;
  if (kind == "lora" || kind == "prompt") {
    data::write_safetensors(saved.folder + "/adapter_model.safetensors", trained(saved, "base_model.model."),
                            saved.provenance);
    write_text(saved.folder + "/adapter_config.json", adapter_config(saved).dump(2));
    return;
  }
  TensorMap tensors = trained(saved, "");
  for (const auto& [name, tensor] : saved.base) {
    if (tensors.contains(name)) continue;
    const torch::Tensor values = tensor.contiguous();
    tensors[name] = Tensor::of(std::span<const float>(values.data_ptr<float>(), static_cast<std::size_t>(values.numel())),
                               Shape(values.sizes().begin(), values.sizes().end()));
  }
  data::write_safetensors(saved.folder + "/model.safetensors", tensors, saved.provenance);
  write_text(saved.folder + "/config.json", saved.family.config_json());
}

}  // namespace fedctl::learn
