// mlp: fully connected layers with ReLU on flattened pixels or features, and a classifier.
#include "learn/torch/families/families.hpp"

namespace fedctl::learn {
namespace {

class Mlp final : public Family {
 public:
  Mlp(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) : info_(spec.data) {
    const auto& options = spec.model.as<MlpOptions>();
    hidden_ = file != nullptr ? file->integer("hidden_size", 1, 1 << 16) : options.hidden;
    const std::int64_t count = file != nullptr ? file->integer("num_hidden_layers", 0, 64) : options.layers;
    inputs_ = static_cast<std::int64_t>(element_count(info_.input_shape));
    std::int64_t width = inputs_;
    for (std::int64_t layer = 0; layer < count; ++layer) {
      layers_.push_back(builder.linear("layers." + std::to_string(layer), "fc1", width, hidden_, true));
      width = hidden_;
    }
    head_ = builder.head("classifier", width, static_cast<std::int64_t>(info_.classes.size()),
                         file != nullptr && file->classes() == info_.classes);
  }

  torch::Tensor logits(const data::Batch& batch) const override {
    torch::Tensor x = view_of(image_of(batch)).flatten(1);
    for (const AdaptableLinear& layer : layers_) x = torch::relu(layer(x));
    return head_(x);
  }
  void check(const data::Batch& batch) const override { check_images(batch, info_); }
  std::string config_json() const override {
    return R"({"model_type":"fedctl_mlp","hidden_size":)" + std::to_string(hidden_) + R"(,"num_hidden_layers":)" +
           std::to_string(layers_.size()) + R"(,"id2label":)" + class_names_json(info_.classes) + '}';
  }
  const char* task_type() const override { return "SEQ_CLS"; }

 private:
  data::DatasetInfo info_;
  std::int64_t hidden_ = 0, inputs_ = 0;
  std::vector<AdaptableLinear> layers_;
  AdaptableLinear head_;
};

}  // namespace

std::unique_ptr<Family> make_mlp(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) {
  return std::make_unique<Mlp>(spec, builder, file);
}

}  // namespace fedctl::learn
