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
    const std::string name =
        block.group == "prompt" || prefix.empty() ? block.name : prefix + peft_name(block.name);
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

// As PEFT finds `chosen`, and no other layer of the model, by their names' endings.
std::string endings(const Saved& saved, const std::vector<std::string>& chosen) {
  std::vector<std::string> wanted, others;
  for (const auto& [target, module] : saved.modules) {
    const bool is_chosen = std::ranges::find(chosen, module) != chosen.end();
    (is_chosen ? wanted : others).push_back(peft_name(module));
  }
  return json_list(peft_targets(wanted, others));
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
std::string adapter_config(const Saved& saved, JsonMembers members) {
  const std::string& path = dynamic_cast<const ModelOptions&>(*saved.spec.model.options).path;
  const char* task = saved.family.task_type();
  const std::vector<std::string> whole = whole_modules(saved);
  members.emplace_back("base_model_name_or_path", path.empty() ? "null" : json_of(path));
  members.emplace_back("task_type", task == nullptr ? "null" : json_of(std::string(task)));
  members.emplace_back("inference_mode", "true");
  const bool layers = !saved.adapted.empty();
  if (layers) {
    members.emplace_back("fan_in_fan_out", saved.family.fan_in_fan_out() ? "true" : "false");
  }
  if (layers || !whole.empty()) {
    members.emplace_back("modules_to_save", whole.empty() ? "null" : json_list(whole));
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
  JsonMembers members = saved.adapter.peft_config(
      {saved.layout, saved.adapted, saved.prefix, peft_name,
       [&](const std::vector<std::string>& modules) { return endings(saved, modules); }});
  if (!members.empty()) {
    // PEFT wraps the model once around a prompt or prefix, and twice around adapted layers.
    const bool is_prompt = saved.adapter.prompt_tokens() + saved.adapter.prefix_tokens() > 0;
    TensorMap tensors = trained(saved, is_prompt ? "base_model." : "base_model.model.");
    for (const auto& [name, tensor] : saved.base.of_adapter) {
      tensors["base_model." + name] = copy_of(tensor);
    }
    data::write_safetensors(saved.folder + "/adapter_model.safetensors", tensors, metadata);
    write_text(saved.folder + "/adapter_config.json", adapter_config(saved, std::move(members)));
    return;
  }
  TensorMap tensors = trained(saved, "");
  for (const auto& [name, tensor] : saved.base.tensors) {
    if (!tensors.contains(name)) tensors[name] = copy_of(tensor);
  }
  data::write_safetensors(saved.folder + "/model.safetensors", tensors, metadata);
  write_text(saved.folder + "/config.json", saved.family.config_json());
}

}  // namespace fedctl::learn
