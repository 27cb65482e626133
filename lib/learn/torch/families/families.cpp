#include "learn/torch/families/families.hpp"

namespace fedctl::learn {
namespace {

std::string kind_and_shape(const Tensor& tensor) {
  return std::string(dtype_name(tensor.dtype)) + to_string(tensor.shape);
}

// Throws DataError unless `tensor` is of this kind and shape and its bytes are all there.
void require_tensor(const Tensor& tensor, const std::string& what, DType dtype,
                    const Shape& shape) {
  if (tensor.dtype != dtype || tensor.shape != shape) {
    throw DataError("the batch's " + what + " are " + kind_and_shape(tensor) + ", expected " +
                    dtype_name(dtype) + to_string(shape));
  }
  if (tensor.bytes.size() != element_count(shape) * element_bytes(dtype)) {
    throw DataError("the batch's " + what + " are " + kind_and_shape(tensor) + " in " +
                    std::to_string(tensor.bytes.size()) + " bytes");
  }
}

void require_range(const Tensor& tensor, const char* what, std::int64_t end, bool may_ignore) {
  for (const std::int64_t value : tensor.i64()) {
    if ((value >= 0 && value < end) || (may_ignore && value == data::kIgnore)) continue;
    throw DataError(std::string(what) + ' ' + std::to_string(value) + " is not in [0, " +
                    std::to_string(end) + ')');
  }
}

}  // namespace

std::unique_ptr<Family> make_family(const LearnerSpec& spec, Builder& builder,
                                    const Checkpoint* file) {
#define TORCH_FAMILY(name) \
  if (spec.model.kind == #name) return make_##name(spec, builder, file);
#define PLAIN_FAMILY(name)
#include "learn/families.def"
#undef TORCH_FAMILY
#undef PLAIN_FAMILY
  throw ConfigError("model.kind " + spec.model.kind + " is not built on LibTorch");
}

void require_images(const LearnerSpec& spec, std::size_t rank) {
  const std::string both = "model.kind is " + spec.model.kind + " and data.kind's ";
  if (spec.data.task != data::Task::classify || spec.data.classes.empty()) {
    throw ConfigError(both + "examples have no classes: they do not fit together",
                      "fedctl list datasets");
  }
  const Shape& shape = spec.data.input_shape;
  if (shape.empty() || (rank != 0 && shape.size() != rank) || element_count(shape) == 0) {
    throw ConfigError(both + "inputs are " + (shape.empty() ? "tokens" : to_string(shape)) +
                      ", expected " + (rank == 0 ? "numbers" : "[channels,height,width]"));
  }
}

const Tensor& image_of(const data::Batch& batch) {
  for (const char* name : {"pixels", "features"}) {
    const auto found = batch.find(name);
    if (found != batch.end()) return found->second;
  }
  throw DataError("the batch has neither pixels nor features", "this model does not read text");
}

void check_images(const data::Batch& batch, const data::DatasetInfo& info) {
  const Tensor& image = image_of(batch);
  if (image.shape.empty() || image.shape[0] < 1) {
    throw DataError("the batch's inputs are " + kind_and_shape(image) + ": no example in them");
  }
  Shape expected = info.input_shape;
  expected.insert(expected.begin(), image.shape[0]);
  require_tensor(image, "inputs", DType::f32, expected);
  const auto labels = batch.find("labels");
  if (labels == batch.end()) return;
  require_tensor(labels->second, "labels", DType::i64, {image.shape[0]});
  require_range(labels->second, "label", static_cast<std::int64_t>(info.classes.size()), false);
}

void check_tokens(const data::Batch& batch, std::int64_t vocabulary, std::int64_t longest) {
  const auto found = batch.find("tokens");
  if (found == batch.end()) throw DataError("the batch has no tokens", "this model reads text");
  const Tensor& tokens = found->second;
  if (tokens.shape.size() != 2 || tokens.shape[0] < 1 || tokens.shape[1] < 1) {
    throw DataError("the batch's tokens are " + kind_and_shape(tokens) + ", expected i64[n,t]");
  }
  require_tensor(tokens, "tokens", DType::i64, tokens.shape);
  if (tokens.shape[1] > longest) {
    throw DataError("a sequence has " + std::to_string(tokens.shape[1]) +
                        " tokens, the model and its prompt leave room for " +
                        std::to_string(longest),
                    "cut the texts shorter");
  }
  require_range(tokens, "token", vocabulary, false);
  const auto labels = batch.find("labels");
  if (labels == batch.end()) return;
  require_tensor(labels->second, "labels", DType::i64, tokens.shape);
  require_range(labels->second, "label", vocabulary, true);
}

}  // namespace fedctl::learn
