#include "learn/torch/save.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include "learn/torch/convert.hpp"
#include "learn/torch/peft_names.hpp"

namespace fedctl::learn {
namespace {

TensorMap trained(const Saved& saved, const std::string& prefix) {
  TensorMap tensors;
  for (const Block& block : saved.layout.blocks()) {
    const std::string name = block.group == "prompt" || prefix.empty()
                                 ? block.name
                                 : prefix + peft_name(block.name);
    tensors[name] = Tensor::of(saved.weights.subspan(block.offset, block.count), block.shape);
  }
  return tensors;
}

std::string json_list(const std::vector<std::string>& texts) {
  std::string list = "[";
  for (const std::string& text : texts) {
    if (list.size() > 1) list += ',';
    list += json_of(text);
  }
  list += ']';
  return list;
}

std::vector<std::string> target_modules(const Saved& saved, const LoraOptions& lora) {
  std::vector<std::string> chosen, others;
  for (const auto& [target, module] : saved.modules) {
    const bool wanted = std::ranges::find(lora.targets, target) != lora.targets.end();
    (wanted ? chosen : others).push_back(peft_name(module));
  }
  return peft_targets(chosen, others);
}

// Modules that are trained and saved as a whole: those of the parameters in group "head".
std::vector<std::string> whole_modules(const Saved& saved) {
  std::set<std::string> modules;
  for (const Block& block : saved.layout.blocks()) {
    if (block.group == "head") modules.insert(block.name.substr(0, block.name.rfind('.')));
  }
  return {modules.begin(), modules.end()};
}

// PEFT 0.4 and later read this; keys it has no use for are left out.
std::string adapter_config(const Saved& saved) {
  const std::string& path = dynamic_cast<const ModelOptions&>(*saved.spec.model.options).path;
  const char* task = saved.family.task_type();
  const std::vector<std::string> whole = whole_modules(saved);
  std::vector<std::pair<std::string, std::string>> members = {
      {"base_model_name_or_path", path.empty() ? "null" : json_of(path)},
      {"task_type", task == nullptr ? "null" : json_of(std::string(task))},
      {"inference_mode", "true"}};
  const config::Options* options = saved.spec.adapter.options.get();
  if (const auto* lora = dynamic_cast<const LoraOptions*>(options)) {
    members.emplace_back("peft_type", json_of("LORA"));
    members.emplace_back("r", std::to_string(lora->rank));
    members.emplace_back("lora_alpha", json_of(lora->alpha));
    members.emplace_back("lora_dropout", "0.0");
    members.emplace_back("bias", json_of("none"));
    members.emplace_back("fan_in_fan_out", saved.family.fan_in_fan_out() ? "true" : "false");
    members.emplace_back("target_modules", json_list(target_modules(saved, *lora)));
    members.emplace_back("modules_to_save", whole.empty() ? "null" : json_list(whole));
  }
  if (const auto* prompt = dynamic_cast<const PromptOptions*>(options)) {
    const Block& block = saved.layout.block("prompt_embeddings");
    members.emplace_back("peft_type", json_of("PROMPT_TUNING"));
    members.emplace_back("prompt_tuning_init", json_of("RANDOM"));
    members.emplace_back("num_virtual_tokens", std::to_string(prompt->tokens));
    members.emplace_back("token_dim", std::to_string(block.shape[1]));
    members.emplace_back("num_transformer_submodules", "1");
    if (!whole.empty()) members.emplace_back("modules_to_save", json_list(whole));
  }
  return json_object(members);
}

}  // namespace

std::vector<std::string> peft_targets(const std::vector<std::string>& chosen,
                                      const std::vector<std::string>& others) {
  std::set<std::string> endings;
  for (const std::string& module : chosen) {
    std::string ending = module;
    for (std::size_t dot = module.rfind('.'); dot != std::string::npos && dot > 0;
         dot = module.rfind('.', dot - 1)) {
      const std::string shorter = module.substr(dot + 1);
      const bool matches_other = std::ranges::any_of(others, [&](const std::string& other) {
        return other == shorter || other.ends_with('.' + shorter);
      });
      if (matches_other) continue;
      ending = shorter;
      break;
    }
    endings.insert(ending);
  }
  return {endings.begin(), endings.end()};
}

void save_folder(const Saved& saved) {
  std::error_code error;
  std::filesystem::create_directories(saved.folder, error);
  if (error) throw DataError(saved.folder + ": cannot be made: " + error.message());
  std::map<std::string, std::string> metadata = saved.provenance;
  metadata.emplace("format", "pt");  // transformers refuses a file that does not say so
  const std::string& kind = saved.spec.adapter.kind;
  if (kind == "lora" || kind == "prompt") {
    // PEFT wraps the model once around a prompt, and twice around adapted layers.
    const char* prefix = kind == "prompt" ? "base_model." : "base_model.model.";
    data::write_safetensors(saved.folder + "/adapter_model.safetensors", trained(saved, prefix),
                            metadata);
    write_text(saved.folder + "/adapter_config.json", adapter_config(saved));
    return;
  }
  TensorMap tensors = trained(saved, "");
  for (const auto& [name, tensor] : saved.base) {
    if (!tensors.contains(name)) tensors[name] = copy_of(tensor);
  }
  data::write_safetensors(saved.folder + "/model.safetensors", tensors, metadata);
  write_text(saved.folder + "/config.json", saved.family.config_json());
}

}  // namespace fedctl::learn
