#include "learn/torch/save.hpp"

#include <algorithm>
#include <set>

#include "learn/torch/convert.hpp"
#include "learn/torch/peft_names.hpp"
#include "learn/torch/summary.hpp"

namespace fedctl::learn {
namespace {

// Transformers refuses a file that does not say so.
const std::map<std::string, std::string> kMetadata = {{"format", "pt"}};

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

void whole_model(const Saved& saved, AdapterFiles& files) {
  files.weights_name = "model.safetensors";
  files.config_name = "config.json";
  files.config = saved.family.config_json();
  files.metadata = kMetadata;
}

AdapterFiles adapter_files(const Saved& saved) {
  AdapterFiles files;
  JsonMembers members = saved.adapter.peft_config(
      {saved.layout, saved.adapted, saved.prefix, peft_name,
       [&](const std::vector<std::string>& modules) { return endings(saved, modules); }});
  if (!members.empty()) {
    // PEFT wraps the model once around a prompt or prefix, and twice around adapted layers.
    const bool is_prompt = saved.adapter.prompt_tokens() + saved.adapter.prefix_tokens() > 0;
    const std::string prefix = is_prompt ? "base_model." : "base_model.model.";
    for (const Block& block : saved.layout.blocks()) {
      files.names.push_back(block.group == "prompt" ? block.name : prefix + peft_name(block.name));
    }
    for (const auto& [name, tensor] : saved.base.of_adapter) {
      files.frozen["base_model." + name] = copy_of(tensor);
    }
    files.metadata = kMetadata;
    files.weights_name = "adapter_model.safetensors";
    files.config_name = "adapter_config.json";
    files.config = adapter_config(saved, std::move(members));
    return files;
  }
  for (const Block& block : saved.layout.blocks()) files.names.push_back(block.name);
  const std::set<std::string> trained = trained_names(saved.layout);
  for (const auto& [name, tensor] : saved.base.tensors) {
    if (!trained.contains(name)) files.frozen[name] = copy_of(tensor);
  }
  whole_model(saved, files);
  return files;
}

}  // namespace fedctl::learn
