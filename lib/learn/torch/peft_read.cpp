#include "learn/torch/peft_read.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "data/safetensors_folder.hpp"
#include "learn/spec.hpp"
#include "learn/torch/peft_names.hpp"

namespace fedctl::learn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::uintmax_t kConfigBytesMax = std::uintmax_t{1} << 20;
constexpr int kConfigDepthMax = 16;
constexpr const char* kWeights = "/adapter_model.safetensors";

class AdapterConfig {
 public:
  explicit AdapterConfig(const std::string& folder) : path_(folder + "/adapter_config.json") {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(path_, error);
    if (error) throw DataError(path_ + ": cannot be read", "adapter.path takes a PEFT folder");
    if (size > kConfigBytesMax) {
      throw DataError(path_ + ": has " + std::to_string(size) + " bytes, at most " +
                      std::to_string(kConfigBytesMax) + " are read");
    }
    bool too_deep = false;
    const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t, Json&) {
      too_deep = too_deep || depth > kConfigDepthMax;
      return !too_deep;
    };
    std::ifstream in(path_, std::ios::binary);
    json_ = Json::parse(in, watch, false);
    if (too_deep) throw DataError(path_ + ": nested too deeply");
    if (!json_.is_object()) throw DataError(path_ + ": not a JSON object");
  }

  void require_text(const char* key, const std::string& expected) const {
    const auto found = json_.find(key);
    if (found == json_.end() || !found->is_string()) fail(key, "is missing or no text", expected);
    if (*found != expected) fail(key, "is " + found->dump().substr(0, 64), expected);
  }
  void require_number(const char* key, double expected, const char* ours) const {
    const auto found = json_.find(key);
    if (found == json_.end() || !found->is_number()) fail(key, "is missing or no number", "one");
    if (found->get<double>() != expected) {
      fail(key, "is " + found->dump().substr(0, 64),
           Json(expected == std::floor(expected) ? Json(static_cast<std::int64_t>(expected))
                                                 : Json(expected))
                   .dump() +
               std::string(" (") + ours + ')');
    }
  }
  // Absent and null count as off.
  void require_flag(const char* key, bool expected) const {
    const auto found = json_.find(key);
    const bool on = found != json_.end() && found->is_boolean() && found->get<bool>();
    if (on != expected) fail(key, on ? "is true" : "is not true", expected ? "true" : "false");
  }
  void require_empty(const char* key) const {
    const auto found = json_.find(key);
    if (found != json_.end() && !found->empty()) fail(key, "is not empty", "adapter.ranks like it");
  }

 private:
  [[noreturn]] void fail(const char* key, const std::string& what,
                         const std::string& expected) const {
    throw DataError(path_ + ": " + key + ' ' + what + ", expected " + expected,
                    "adapter.kind and its keys must be those the folder was trained with");
  }

  std::string path_;
  Json json_;
};

void check_config(const std::string& folder, const config::Plugin& adapter) {
  const AdapterConfig config(folder);
  const config::Options* options = adapter.options.get();
  if (const auto* lora = dynamic_cast<const LoraOptions*>(options)) {
    config.require_text("peft_type", "LORA");
    config.require_number("r", static_cast<double>(lora->rank), "adapter.rank");
    config.require_number("lora_alpha", lora->alpha, "adapter.alpha");
    config.require_flag("use_rslora", lora->rslora);
    config.require_flag("use_dora", dynamic_cast<const DoraOptions*>(options) != nullptr);
    if (lora->ranks.empty()) {
      config.require_empty("rank_pattern");
      config.require_empty("alpha_pattern");
    }
  } else if (const auto* prompt = dynamic_cast<const PromptOptions*>(options)) {
    config.require_text("peft_type", "PROMPT_TUNING");
    config.require_number("num_virtual_tokens", static_cast<double>(prompt->tokens),
                          "adapter.tokens");
  } else if (const auto* prefix = dynamic_cast<const PrefixOptions*>(options)) {
    config.require_text("peft_type", "PREFIX_TUNING");
    config.require_number("num_virtual_tokens", static_cast<double>(prefix->tokens),
                          "adapter.tokens");
  } else if (dynamic_cast<const Ia3Options*>(options) != nullptr) {
    config.require_text("peft_type", "IA3");
  } else if (const auto* vera = dynamic_cast<const VeraOptions*>(options)) {
    config.require_text("peft_type", "VERA");
    config.require_number("r", static_cast<double>(vera->rank), "adapter.rank");
  }
}

// The names a parameter may have in the folder. PEFT wraps the model once ("base_model.") around
// prompts and twice around layers; releases differ in the names of ViT's modules, and in whether a
// module that was trained as a whole keeps its wrapper's name.
std::vector<std::string> names_of(const Block& block) {
  if (block.group == "prompt") return {block.name};
  std::vector<std::string> names = {"base_model.model." + peft_name(block.name),
                                    "base_model.model." + block.name, "base_model." + block.name};
  const std::size_t dot = block.name.rfind('.');
  if (block.group == "head" && dot != std::string::npos) {
    for (const char* wrapper : {".modules_to_save", ".modules_to_save.default"}) {
      names.push_back("base_model.model." + block.name.substr(0, dot) + wrapper +
                      block.name.substr(dot));
      names.push_back("base_model." + block.name.substr(0, dot) + wrapper + block.name.substr(dot));
    }
  }
  return names;
}

void require_shape(const std::string& path, const std::string& name, const Shape& found,
                   const Block& block) {
  if (found == block.shape) return;
  throw DataError(path + ": tensor \"" + name + "\" is " + to_string(found) + ", expected " +
                  to_string(block.shape));
}

// Frozen parts of the adapter, which this run draws from its seed: the folder's must be the same.
void check_frozen(const data::Safetensors& file, const std::string& path, const Frozen& frozen,
                  std::set<std::string>& used) {
  for (const auto& [name, expected] : frozen) {
    const std::string key = "base_model." + name;
    const auto fail = [&](const std::string& what) {
      throw DataError(path + ": tensor \"" + key + "\" " + what,
                      "seed and adapter.rank must be those it was trained with");
    };
    if (!file.contains(key)) fail("is missing");
    const Tensor found = file.f32(key);
    if (!std::ranges::equal(found.f32(), expected)) fail("is not the one of this experiment");
    used.insert(key);
  }
}

void read_peft(const std::string& folder, const Layout& layout, const Frozen& frozen,
               std::span<float> values) {
  const std::string path = folder + kWeights;
  std::error_code error;
  if (!fs::exists(path, error) && fs::exists(folder + "/adapter_model.bin", error)) {
    throw DataError(folder + "/adapter_model.bin: pickled files are not read, they may run code",
                    "save it with save_pretrained(..., safe_serialization=True)");
  }
  const auto file = data::Safetensors::open(path);
  std::set<std::string> used;
  check_frozen(file, path, frozen, used);
  for (const Block& block : layout.blocks()) {
    const std::vector<std::string> names = names_of(block);
    const auto name = std::ranges::find_if(
        names, [&](const std::string& candidate) { return file.contains(candidate); });
    if (name == names.end()) {
      if (block.group == "head") continue;
      throw DataError(path + ": no tensor \"" + names.front() + '"',
                      "does the adapter target other layers, or belong to another model?");
    }
    require_shape(path, *name, file.shape(*name), block);
    file.f32_into(*name, values.subspan(block.offset, block.count));
    used.insert(*name);
  }
  for (const std::string& name : file.names()) {
    if (used.contains(name)) continue;
    throw DataError(path + ": tensor \"" + name + "\" is no part of this adapter",
                    "adapter.targets and adapter.train_head must be those it was trained with");
  }
}

void read_whole(const std::string& folder, const Layout& layout, std::span<float> values) {
  const auto model = data::SafetensorsFolder::open(folder);
  for (const Block& block : layout.blocks()) {
    if (!model.contains(block.name)) {
      throw DataError(folder + ": has no tensor \"" + block.name + '"',
                      "is it a model of another kind?");
    }
    const data::Safetensors& file = model.file(block.name);
    require_shape(folder, block.name, file.shape(block.name), block);
    file.f32_into(block.name, values.subspan(block.offset, block.count));
  }
}

}  // namespace

void read_adapter(const std::string& folder, const config::Plugin& adapter, const Layout& layout,
                  const Frozen& frozen, std::span<float> weights) {
  FEDCTL_ASSERT(weights.size() == layout.size());
  std::vector<float> values(weights.begin(), weights.end());
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw DataError(folder + ": no such folder", "paths are relative to the current directory");
  }
  const bool whole = std::ranges::all_of(layout.blocks(), [](const Block& block) {
    return block.group == "base" || block.group == "head";
  });
  if (whole && !fs::exists(folder + kWeights, error)) {
    read_whole(folder, layout, values);
  } else {
    check_config(folder, adapter);
    read_peft(folder, layout, frozen, values);
  }
  std::ranges::copy(values, weights.begin());
}

}  // namespace fedctl::learn
