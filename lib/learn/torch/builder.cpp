#include "learn/torch/builder.hpp"

#include <cmath>

#include "base/assert.hpp"
#include "learn/torch/convert.hpp"

namespace fedctl::learn {

Init Init::linear(std::int64_t inputs) {
  return uniform(1.0 / std::sqrt(static_cast<double>(inputs)));
}

at::Tensor AdaptableLinear::operator()(const at::Tensor& x) const {
  const bool turned = storage == Storage::input_first;
  const at::Tensor y = at::linear(x, turned ? weight.t() : weight, bias);
  return delta ? delta->add(y, x) : y;
}

at::Tensor AdaptableLinear::onto(const at::Tensor& residual, const at::Tensor& x) const {
  // In place is safe: a sum's gradient needs none of its terms.
  at::Tensor y = at::addmm(residual, x, storage == Storage::input_first ? weight : weight.t());
  if (bias.defined()) y.add_(bias);
  return delta ? delta->add(y, x) : y;
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

at::Tensor Builder::parameter(const std::string& name, const Shape& shape, Init init) {
  const at::Tensor& values = base_values(name, shape, init, base_.file != nullptr);
  return adapter_.trains_base() ? trainable(name, "base", values) : values;
}

at::Tensor Builder::constant(const std::string& name, const Shape& shape) {
  if (!base_.complete) base_.constants.insert(name);
  return base_values(name, shape, Init::zeros(), true);
}

AdaptableLinear Builder::linear(const std::string& module, const std::string& target,
                                std::int64_t in, std::int64_t out, bool bias,
                                Storage storage) {
  modules_.emplace(target, module);
  AdaptableLinear layer;
  const Shape shape = storage == Storage::input_first ? Shape{in, out} : Shape{out, in};
  layer.weight = parameter(module + ".weight", shape, Init::linear(in));
  layer.storage = storage;
  if (bias) layer.bias = parameter(module + ".bias", {out}, Init::zeros());
  layer.delta = adapter_.adapt(*this, module, target, in, out);
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

Builder::Flat Builder::finish() {
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
