#include "learn/torch/part_runner.hpp"

#include "base/assert.hpp"
#include "learn/torch/convert.hpp"

namespace fedctl::learn {
namespace {

std::string quoted(std::string_view part) { return "part \"" + std::string(part) + "\": "; }

const Tensor& find_in(std::string_view part, const TensorMap& tensors, const char* name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError(quoted(part) + "there are no " + name);
  return found->second;
}

// Throws DataError unless `tensor` is of this kind and shape and its bytes are all there.
void require(std::string_view part, const std::string& name, const Tensor& tensor, DType dtype,
             const Shape& shape) {
  if (tensor.dtype == dtype && tensor.shape == shape &&
      tensor.bytes.size() == element_count(shape) * element_bytes(dtype)) {
    return;
  }
  throw DataError(quoted(part) + name + " are " + dtype_name(tensor.dtype) +
                  to_string(tensor.shape) + " in " + std::to_string(tensor.bytes.size()) +
                  " bytes, expected " + dtype_name(dtype) + to_string(shape));
}

}  // namespace

std::vector<std::string> PartRunner::names() const {
  std::vector<std::string> names = {"embed"};
  for (std::int64_t i = 0; i < family_.block_count(); ++i) {
    names.push_back("block." + std::to_string(i));
  }
  names.emplace_back("head");
  return names;
}

std::int64_t PartRunner::index_of(std::string_view part) const {
  std::int64_t index = -1;
  for (const std::string& name : names()) {
    if (name == part) return index;
    ++index;
  }
  throw ConfigError("this model has no part \"" + std::string(part) + "\": it has embed, " +
                    std::to_string(family_.block_count()) + " of block.0 and so on, head");
}

PartState PartRunner::state_of(std::string_view part, std::int64_t index,
                               const TensorMap& inputs) const {
  const Tensor& rows = find_in(part, inputs, "rows");
  const Tensor& lengths = find_in(part, inputs, "lengths");
  if (lengths.shape.size() != 1 || lengths.shape[0] < 1) {
    throw DataError(quoted(part) + "lengths are " + dtype_name(lengths.dtype) +
                    to_string(lengths.shape) + ", expected i64[n] with at least one example");
  }
  require(part, "lengths", lengths, DType::i64, lengths.shape);
  const PartedFamily::Input expected = family_.input_of(index);
  std::int64_t total = 0;
  for (const std::int64_t length : lengths.i64()) {
    if (length < expected.length_min || length > expected.length_max) {
      throw DataError(quoted(part) + "an example has " + std::to_string(length) +
                      " rows, expected " + std::to_string(expected.length_min) + " to " +
                      std::to_string(expected.length_max));
    }
    total += length;
  }
  require(part, "rows", rows, DType::f32, {total, expected.width});
  return {view_of(rows).set_requires_grad(true), {lengths.i64().begin(), lengths.i64().end()}};
}

TensorMap PartRunner::forward(std::string_view part, const TensorMap& inputs) {
  const std::int64_t index = index_of(part);
  Call call{inputs, {}, {}};
  PartState state;
  if (index < 0) {
    family_.check(call.inputs);
  } else {
    state = state_of(part, index, call.inputs);
    call.rows = state.rows;
  }
  TensorMap outputs;
  if (index == family_.block_count()) {
    call.output = family_.head(state);
    outputs["logits"] = copy_of(call.output);
  } else {
    state = index < 0 ? family_.embed(call.inputs) : family_.block(index, state);
    call.output = state.rows;
    outputs["rows"] = copy_of(state.rows);
    outputs["lengths"] = Tensor::of(std::span<const std::int64_t>(state.lengths), {});
  }
  calls_.insert_or_assign(std::string(part), std::move(call));
  return outputs;
}

TensorMap PartRunner::backward(std::string_view part, const TensorMap& output_gradients) {
  const char* name = index_of(part) == family_.block_count() ? "logits" : "rows";
  const auto found = calls_.find(part);
  FEDCTL_ASSERT(found != calls_.end());
  const Tensor& gradient = find_in(part, output_gradients, name);
  require(part, std::string("the gradients of ") + name, gradient, DType::f32,
          shape_of(found->second.output));
  const Call call = std::move(calls_.extract(found).mapped());
  // Of an embedding that nothing trains there is no graph.
  if (call.output.requires_grad()) call.output.backward(view_of(gradient));
  if (!call.rows.defined()) return {};
  return {{"rows", copy_of(call.rows.grad())}};
}

}  // namespace fedctl::learn
