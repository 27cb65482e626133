#include "learn/torch/families/families.hpp"

#include "base/assert.hpp"

namespace fedctl::learn {

std::unique_ptr<Family> make_family(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) {
#define TORCH_FAMILY(name) \
  if (spec.model.kind == #name) return make_##name(spec, builder, file);
#define PLAIN_FAMILY(name)
#include "learn/families.def"
#undef TORCH_FAMILY
#undef PLAIN_FAMILY
  throw ConfigError("model.kind " + spec.model.kind + " is not built on LibTorch");
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
  Shape expected = info.input_shape;
  expected.insert(expected.begin(), image.shape.empty() ? 0 : image.shape[0]);
  if (image.dtype != DType::f32 || image.shape != expected) {
    throw DataError("the batch's inputs are " + to_string(image.shape) + ", expected " + to_string(expected));
  }
  const auto labels = batch.find("labels");
  if (labels == batch.end()) return;
  if (labels->second.shape != Shape{image.shape[0]}) {
    throw DataError("labels are " + to_string(labels->second.shape) + ", expected one an example");
  }
  require_range(labels->second, 0, static_cast<std::int64_t>(info.classes.size()), "label", false);
}

torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const torch::Tensor& mask) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  torch::Tensor scores = torch::matmul(q * scale, k.transpose(2, 3));
  if (mask.defined()) scores = scores + mask;
  const torch::Tensor mixed = torch::matmul(torch::softmax(scores, -1), v);
  return mixed.transpose(1, 2).reshape({q.size(0), q.size(2), q.size(1) * q.size(3)});
}

}  // namespace fedctl::learn
