#include "learn/torch/builder.hpp"

#include "base/assert.hpp"

namespace fedctl::learn {

torch::Tensor view_of(const Tensor& tensor) {
  torch::ScalarType type = torch::kFloat32;
  if (tensor.dtype == DType::i64) type = torch::kInt64;
  FEDCTL_ASSERT(tensor.dtype == DType::f32 || tensor.dtype == DType::i64);
  // The blob is only read; torch has no const form.
  return torch::from_blob(const_cast<std::byte*>(tensor.bytes.data()), tensor.shape, type);
}

void require_range(const Tensor& tensor, std::int64_t low, std::int64_t high, const char* what, bool ignore_allowed) {
  for (const std::int64_t value : tensor.i64()) {
    if (ignore_allowed && value == data::kIgnore) continue;
    if (value < low || value >= high) {
      throw DataError(std::string(what) + ' ' + std::to_string(value) + " is not in [" + std::to_string(low) + ", " +
                      std::to_string(high) + ')');
    }
  }
}

torch::Tensor Builder::initial(const std::string& name, const Shape& shape, Init init) const {
  torch::Tensor tensor = torch::empty(shape);
  float* values = tensor.data_ptr<float>();
  const auto count = static_cast<std::size_t>(tensor.numel());
  Rng rng = base_.rng.stream(name);
  for (std::size_t i = 0; i < count; ++i) {
    switch (init.kind) {
      case Init::Kind::zeros:
        values[i] = 0;
        break;
      case Init::Kind::ones:
        values[i] = 1;
        break;
      case Init::Kind::uniform:
        values[i] = static_cast<float>(rng.uniform(-init.scale, init.scale));
        break;
      case Init::Kind::normal:
        values[i] = static_cast<float>(init.scale * rng.normal());
        break;
    }
  }
  return tensor;
}

torch::Tensor Builder::parameter(const std::string& name, const Shape& shape, Init init) {
  auto [at, fresh] = base_.tensors.try_emplace(name);
  if (fresh) {
    at->second = base_.file != nullptr ? view_of(base_.file->tensor(name, shape)).clone() : initial(name, shape, init);
  }
  return adapter_.trains_base() ? trainable(name, "base", at->second) : at->second;
}

AdaptableLinear Builder::linear(const std::string& module, const std::string& target, std::int64_t in,
                                std::int64_t out, bool bias) {
  const Init init = Init::uniform(1.0 / std::sqrt(static_cast<double>(in)));
  AdaptableLinear layer;
  layer.weight = parameter(module + ".weight", {out, in}, init);
  if (bias) layer.bias = parameter(module + ".bias", {out}, Init::zeros());
  if (!target.empty()) layer.delta = adapter_.adapt(*this, module, target, in, out);
  return layer;
}

AdaptableLinear Builder::head(const std::string& module, std::int64_t in, std::int64_t out, bool from_file) {
  const bool train = adapter_.trains_base() || adapter_.trains_head();
  const auto part = [&](const std::string& name, const Shape& shape, Init init) {
    auto [at, fresh] = base_.tensors.try_emplace(name);
    if (fresh) {
      at->second = from_file ? view_of(base_.file->tensor(name, shape)).clone() : initial(name, shape, init);
    }
    return train ? trainable(name, "head", at->second) : at->second;
  };
  AdaptableLinear layer;
  layer.weight = part(module + ".weight", {out, in}, Init::uniform(1.0 / std::sqrt(static_cast<double>(in))));
  layer.bias = part(module + ".bias", {out}, Init::zeros());
  return layer;
}

torch::Tensor Builder::trainable(const std::string& name, const std::string& group, const torch::Tensor& first) {
  layout_.add(name, group, Shape(first.sizes().begin(), first.sizes().end()));
  torch::Tensor handle = torch::empty(first.sizes());
  handle.set_requires_grad(true);
  trainable_.emplace_back(handle, first);
  return handle;
}

torch::Tensor Builder::trainable(const std::string& name, const std::string& group, const Shape& shape, Init init) {
  return trainable(name, group, initial(name, shape, init));
}

Builder::Flat Builder::finish() {
  Flat flat;
  flat.layout = layout_;
  const auto size = static_cast<std::int64_t>(layout_.size());
  flat.weights = torch::empty({size});
  flat.gradient = torch::zeros({size});
  const torch::NoGradGuard guard;
  for (std::size_t i = 0; i < trainable_.size(); ++i) {
    auto& [handle, first] = trainable_[i];
    const Block& block = layout_.blocks()[i];
    const auto offset = static_cast<std::int64_t>(block.offset), count = static_cast<std::int64_t>(block.count);
    torch::Tensor window = flat.weights.narrow(0, offset, count).view(block.shape);
    window.copy_(first);
    handle.set_data(window);
    handle.mutable_grad() = flat.gradient.narrow(0, offset, count).view(block.shape);
  }
  return flat;
}

}  // namespace fedctl::learn
