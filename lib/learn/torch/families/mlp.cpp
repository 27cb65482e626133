// mlp: fully connected layers with ReLU on flattened pixels or features, and a classifier.
#include "learn/torch/convert.hpp"
#include "learn/torch/families/families.hpp"

namespace fedctl::learn {
namespace {

class Mlp final : public PartedFamily {
 public:
  Mlp(const LearnerSpec& spec, Builder& builder, const Checkpoint* file) : info_(spec.data) {
    require_images(spec, 0);
    const auto& options = spec.model.as<MlpOptions>();
    std::int64_t count = options.layers;
    hidden_ = options.hidden;
    if (file != nullptr) {
      file->require_text("model_type", "fedctl_mlp");
      count = file->integer("num_hidden_layers", 0, 64);
      hidden_ = file->integer("hidden_size", 1, 1 << 16);
    }
    auto width = static_cast<std::int64_t>(element_count(info_.input_shape));
    for (std::int64_t layer = 0; layer < count; ++layer) {
      layers_.push_back(
          builder.linear("layers." + std::to_string(layer), "fc1", width, hidden_, true));
      width = hidden_;
    }
    head_ = builder.head("classifier", width, static_cast<std::int64_t>(info_.classes.size()),
                         file != nullptr && file->classes() == info_.classes);
  }

  std::int64_t block_count() const override { return static_cast<std::int64_t>(layers_.size()); }
  Input input_of(std::int64_t index) const override {
    const auto inputs = static_cast<std::int64_t>(element_count(info_.input_shape));
    return {index == 0 ? inputs : hidden_, 1, 1};
  }

  // Nothing is learned here: the inputs as one row an example.
  PartState embed(const data::Batch& batch) const override {
    const at::Tensor x = view_of(image_of(batch)).flatten(1);
    return {x, std::vector<std::int64_t>(static_cast<std::size_t>(x.size(0)), 1)};
  }
  PartState block(std::int64_t index, const PartState& state) const override {
    return {at::relu(layers_[static_cast<std::size_t>(index)](state.rows)), state.lengths};
  }
  at::Tensor head(const PartState& state) const override { return head_(state.rows); }

  void check(const data::Batch& batch) const override { check_images(batch, info_); }

  std::string config_json() const override {
    std::vector<std::pair<std::string, std::string>> members = {
        {"model_type", json_of("fedctl_mlp")},
        {"hidden_size", std::to_string(hidden_)},
        {"num_hidden_layers", std::to_string(layers_.size())}};
    for (auto& member : json_of_classes(info_.classes)) members.push_back(std::move(member));
    return json_object(members);
  }

  std::string settings() const override { return "mlp relu"; }

 private:
  data::DatasetInfo info_;
  std::int64_t hidden_ = 0;
  std::vector<AdaptableLinear> layers_;
  AdaptableLinear head_;
};

}  // namespace

std::unique_ptr<Family> make_mlp(const LearnerSpec& spec, Builder& builder,
                                 const Checkpoint* file) {
  return std::make_unique<Mlp>(spec, builder, file);
}

}  // namespace fedctl::learn
