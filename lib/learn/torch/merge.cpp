#include "learn/torch/merge.hpp"

#include "learn/torch/convert.hpp"

namespace fedctl::learn {
namespace {

at::Tensor values_at(const Saved& saved, const Block& block) {
  return at::from_blob(const_cast<float*>(saved.weights.data()) + block.offset, block.shape,
                       at::kFloat);
}

// The layer's matrix, and its bias where it has one, with what the adapter does to it.
void merge_layer(const Saved& saved, const Adapted& layer, TensorMap& tensors) {
  const bool turned = layer.storage == Storage::input_first;
  const at::Tensor stored = saved.base.tensors.at(layer.module + ".weight").to(at::kFloat);
  const at::Tensor merged = layer.delta->merged(turned ? stored.t() : stored);
  tensors[layer.module + ".weight"] = copy_of(turned ? merged.t() : merged);
  const auto bias = saved.base.tensors.find(layer.module + ".bias");
  if (bias == saved.base.tensors.end()) return;
  tensors[layer.module + ".bias"] = copy_of(layer.delta->merged_bias(bias->second));
}

}  // namespace

AdapterFiles merged_files(const Saved& saved) {
  const at::NoGradGuard guard;
  AdapterFiles files;
  TensorMap& tensors = files.frozen;
  for (const Block& block : saved.layout.blocks()) {
    if (block.group == "base" || block.group == "head") {
      tensors[block.name] = copy_of(values_at(saved, block));
    } else if (block.group == "prompt") {
      throw ConfigError("adapter.kind is " + saved.spec.adapter.kind +
                            ": it changes no weight that it could be merged into",
                        "--as peft writes it as a folder of its own");
    }
  }
  for (const Adapted& layer : saved.adapted) merge_layer(saved, layer, tensors);
  for (const auto& [name, tensor] : saved.base.tensors) {
    if (!tensors.contains(name)) tensors[name] = copy_of(tensor);
  }
  whole_model(saved, files);
  return files;
}

}  // namespace fedctl::learn
