#include "learn/torch/builder.hpp"

#include <cmath>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "learn/torch/convert.hpp"
#include "learn/torch/ops.hpp"

namespace fedctl::learn {
namespace {

constexpr double kPrefixDeviation = 0.02;

}  // namespace

Init Init::linear(std::int64_t inputs) {
  return uniform(1.0 / std::sqrt(static_cast<double>(inputs)));
}

at::Tensor AdaptableLinear::frozen(const at::Tensor& x, const at::Tensor& residual) const {
  const at::Tensor turned = storage == Storage::input_first ? weight : weight.t();  // [in, out]
  if (weight.scalar_type() == at::kBFloat16) {
    at::Tensor y = ops::half_product(x, turned);
    if (bias.defined()) y.add_(bias);
    return residual.defined() ? y.add_(residual) : y;
  }
  if (!residual.defined()) return at::linear(x, turned.t(), bias);
  // In place is safe: a sum's gradient needs none of its terms.
  at::Tensor y = at::addmm(residual, x, turned);
  if (bias.defined()) y.add_(bias);
  return y;
}

at::Tensor AdaptableLinear::operator()(const at::Tensor& x) const {
  if (!delta) return frozen(x, {});
  return delta->output(frozen(delta->input(x), {}), x);
}

at::Tensor AdaptableLinear::onto(const at::Tensor& residual, const at::Tensor& x) const {
  if (!delta) return frozen(x, residual);
  if (!delta->only_adds()) return residual + (*this)(x);
  return delta->output(frozen(delta->input(x), residual), x);
}

at::Tensor AdaptableLinear::matrix() const {
  return (storage == Storage::input_first ? weight.t() : weight).to(at::kFloat);
}

at::Tensor Builder::initial(const std::string& name, const Shape& shape, Init init) const {
  at::Tensor tensor = at::empty(shape);
  Rng rng = stream(name);
  for (float& value : values_of(tensor)) {
    switch (init.kind) {
      case Init::Kind::zeros:
        value = 0;
        break;
      case Init::Kind::ones:
        value = 1;
        break;
      case Init::Kind::uniform:
        value = static_cast<float>(rng.uniform(-init.scale, init.scale));
        break;
      case Init::Kind::normal:
        value = static_cast<float>(init.scale * rng.normal());
        break;
    }
  }
  return tensor;
}

const at::Tensor& Builder::base_values(const std::string& name, const Shape& shape, Init init,
                                       bool from_file) {
  const auto found = base_.tensors.find(name);
  if (found != base_.tensors.end()) return found->second;
  FEDCTL_ASSERT(!base_.complete);
  at::Tensor values;
  if (from_file) {
    base_.file->require(name, shape);  // before memory is asked for on its word
    values = at::empty(shape);
    base_.file->read(name, values_of(values));
  } else {
    values = initial(name, shape, init);
  }
  return base_.tensors.emplace(name, std::move(values)).first->second;
}

const at::Tensor& Builder::round_values(const std::string& name) {
  at::Tensor& values = base_.tensors.at(name);
  if (values.scalar_type() == at::kBFloat16) return values;
  FEDCTL_ASSERT(!base_.complete);
  base_.rounded[name] = digest_of(std::as_bytes(values_of(values)));
  values = values.to(at::kBFloat16);
  return values;
}

at::Tensor Builder::parameter(const std::string& name, const Shape& shape, Init init) {
  const at::Tensor& values = base_values(name, shape, init, base_.file != nullptr);
  const bool train =
      adapter_.trains_base() || (adapter_.trains_biases() && name.ends_with(".bias"));
  return train ? trainable(name, "base", values) : values;
}

at::Tensor Builder::constant(const std::string& name, const Shape& shape) {
  if (!base_.complete) base_.constants.insert(name);
  return base_values(name, shape, Init::zeros(), true);
}

AdaptableLinear Builder::linear(const std::string& module, const std::string& target,
                                std::int64_t in, std::int64_t out, bool bias, Storage storage) {
  modules_.emplace(target, module);
  AdaptableLinear layer;
  const Shape shape = storage == Storage::input_first ? Shape{in, out} : Shape{out, in};
  layer.weight = parameter(module + ".weight", shape, Init::linear(in));
  if (half_ && !adapter_.trains_base()) layer.weight = round_values(module + ".weight");
  layer.storage = storage;
  if (bias) layer.bias = parameter(module + ".bias", {out}, Init::zeros());
  layer.delta = adapter_.adapt(*this, {module, target, in, out, layer});
  if (layer.delta) adapted_.push_back({module, target, storage, layer.delta});
  return layer;
}

AdaptableLinear Builder::head(const std::string& module, std::int64_t in, std::int64_t out,
                              bool from_file) {
  modules_.emplace("", module);
  const bool train = adapter_.trains_base() || adapter_.trains_head();
  const auto part = [&](const std::string& name, const Shape& shape, Init init) {
    const at::Tensor& values = base_values(name, shape, init, from_file);
    return train ? trainable(name, "head", values) : values;
  };
  AdaptableLinear layer;
  layer.weight = part(module + ".weight", {out, in}, Init::linear(in));
  layer.bias = part(module + ".bias", {out}, Init::zeros());
  return layer;
}

at::Tensor Builder::trainable(const std::string& name, const std::string& group,
                              const at::Tensor& first) {
  layout_.add(name, group, Shape(first.sizes().begin(), first.sizes().end()));
  at::Tensor handle = at::empty({0});
  handle.set_requires_grad(true);
  trainable_.emplace_back(handle, first);
  return handle;
}

at::Tensor Builder::trainable(const std::string& name, const std::string& group, const Shape& shape,
                              Init init) {
  return trainable(name, group, initial(name, shape, init));
}

Prefix Builder::prefix(std::int64_t depth, std::int64_t heads, std::int64_t width) {
  const std::int64_t tokens = adapter_.prefix_tokens();
  if (tokens == 0) return {};
  // Deviation from PEFT, whose embedding starts with deviation 1: small keys and values disturb a
  // trained model less.
  const Shape shape = {tokens, depth * 2 * width};
  const at::Tensor embeddings =
      trainable("prompt_embeddings", "prompt", shape, Init::normal(kPrefixDeviation));
  prefix_ = {embeddings, tokens, depth, heads, width};
  return prefix_;
}

at::Tensor Builder::frozen(const std::string& name, const Shape& shape, Init init) {
  const auto found = base_.of_adapter.find(name);
  if (found != base_.of_adapter.end()) return found->second;
  FEDCTL_ASSERT(!base_.complete);
  return base_.of_adapter.emplace(name, initial(name, shape, init)).first->second;
}

Builder::Flat Builder::finish() {
  adapter_.complete(*this);
  Flat flat;
  flat.layout = layout_;
  const auto size = static_cast<std::int64_t>(layout_.size());
  flat.weights = at::empty({size});
  flat.gradient = at::zeros({size});
  const at::NoGradGuard guard;
  for (std::size_t i = 0; i < trainable_.size(); ++i) {
    auto& [handle, first] = trainable_[i];
    const Block& block = layout_.blocks()[i];
    const auto offset = static_cast<std::int64_t>(block.offset);
    const auto count = static_cast<std::int64_t>(block.count);
    const at::Tensor window = flat.weights.narrow(0, offset, count).view(block.shape);
    window.copy_(first);
    handle.set_data(window);
    handle.mutable_grad() = flat.gradient.narrow(0, offset, count).view(block.shape);
  }
  return flat;
}

at::Tensor PartedFamily::logits(const data::Batch& batch) const {
  PartState state = embed(batch);
  for (std::int64_t i = 0; i < block_count(); ++i) state = block(i, state);
  return head(state);
}

}  // namespace fedctl::learn
