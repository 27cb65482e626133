#include "learn/torch/merge.hpp"

#include <filesystem>

#include "learn/torch/convert.hpp"

namespace fedctl::learn {
namespace {

constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";

at::Tensor values_at(const Saved& saved, const Block& block) {
  return at::from_blob(const_cast<float*>(saved.weights.data()) + block.offset, block.shape,
                       at::kFloat);
}

// The adapted layer's weight. Summed in double precision, then rounded once.
at::Tensor merged(const Saved& saved, const std::string& module, const LoraOptions& lora) {
  const at::Tensor a = values_at(saved, saved.layout.block(module + std::string(kA)));
  const at::Tensor b = values_at(saved, saved.layout.block(module + std::string(kB)));
  const double scale = lora.alpha / static_cast<double>(lora.rank);
  at::Tensor update = b.to(at::kDouble).mm(a.to(at::kDouble)).mul_(scale);
  if (saved.family.fan_in_fan_out()) update = update.t();  // as the weight lies in the file
  return (update + saved.base.at(module + ".weight")).to(at::kFloat);
}

}  // namespace

void merge_folder(const Saved& saved, data::Storage storage) {
  const auto* lora = dynamic_cast<const LoraOptions*>(saved.spec.adapter.options.get());
  TensorMap tensors;
  for (const Block& block : saved.layout.blocks()) {
    if (block.group == "base" || block.group == "head") {
      tensors[block.name] = copy_of(values_at(saved, block));
    } else if (lora != nullptr && block.name.ends_with(kA)) {
      const std::string module = block.name.substr(0, block.name.size() - kA.size());
      tensors[module + ".weight"] = copy_of(merged(saved, module, *lora));
    } else if (lora == nullptr || !block.name.ends_with(kB)) {
      throw ConfigError("adapter.kind is " + saved.spec.adapter.kind +
                            ": it changes no weight that it could be merged into",
                        "--as peft writes it as a folder of its own");
    }
  }
  for (const auto& [name, tensor] : saved.base) {
    if (!tensors.contains(name)) tensors[name] = copy_of(tensor);
  }
  std::error_code error;
  std::filesystem::create_directories(saved.folder, error);
  if (error) throw DataError(saved.folder + ": cannot be made: " + error.message());
  std::map<std::string, std::string> metadata = saved.provenance;
  metadata.emplace("format", "pt");  // transformers refuses a file that does not say so
  data::write_safetensors(saved.folder + "/model.safetensors", tensors, metadata, storage);
  write_text(saved.folder + "/config.json", saved.family.config_json());
}

}  // namespace fedctl::learn
