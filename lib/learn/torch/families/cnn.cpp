// cnn: the convolutional network of McMahan et al., AISTATS 2017, arXiv 1602.05629: two 5x5
// convolutions (32 and 64 channels) with padding, each with ReLU and 2x2 max pooling, a fully
// connected layer with ReLU (512), and a classifier. 1,663,370 parameters for 28x28 and ten
// classes, as in the paper.
#include "learn/torch/convert.hpp"
#include "learn/torch/families/families.hpp"

namespace fedctl::learn {
namespace {

constexpr std::int64_t kSide = 5;  // of a kernel

struct Dimensions {
  std::int64_t inputs, rows, columns;  // of the image
  std::int64_t channels, hidden;
};

Dimensions read_dimensions(const LearnerSpec& spec, const Checkpoint* file) {
  require_images(spec, 3);
  const Shape& image = spec.data.input_shape;
  const auto& options = spec.model.as<CnnOptions>();
  Dimensions d{image[0], image[1], image[2], options.channels, options.hidden};
  if (file != nullptr) {
    file->require_text("model_type", "fedctl_cnn");
    d.channels = file->integer("num_filters", 1, 1 << 12);
    d.hidden = file->integer("hidden_size", 1, 1 << 16);
  }
  if (d.rows < 4 || d.columns < 4) {
    throw ConfigError("model.kind is cnn and the images are " + to_string(image) +
                      ": their sides are halved twice and must be at least 4");
  }
  return d;
}

// Convolution, ReLU and pooling of one row an example: [n, in * rows * columns] -> [n, out * (rows
// / 2) * (columns / 2)].
struct Convolution {
  std::int64_t in, out, rows, columns;
  at::Tensor weight, bias;

  Convolution(Builder& builder, const std::string& name, Shape sizes)
      : in(sizes[0]), out(sizes[1]), rows(sizes[2]), columns(sizes[3]) {
    weight = builder.parameter(name + ".weight", {out, in, kSide, kSide},
                               Init::linear(in * kSide * kSide));
    bias = builder.parameter(name + ".bias", {out}, Init::zeros());
  }

  std::int64_t inputs() const { return in * rows * columns; }
  std::int64_t outputs() const { return out * (rows / 2) * (columns / 2); }

  PartState operator()(const PartState& state) const {
    const at::Tensor x = state.rows.view({state.rows.size(0), in, rows, columns});
    const at::Tensor y = at::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/kSide / 2);
    return {at::max_pool2d(at::relu(y), 2).flatten(1), state.lengths};
  }
};

class Cnn final : public PartedFamily {
 public:
  Cnn(const LearnerSpec& spec, Builder& builder, const Checkpoint* file)
      : info_(spec.data),
        d_(read_dimensions(spec, file)),
        conv1_(builder, "conv1", {d_.inputs, d_.channels, d_.rows, d_.columns}),
        conv2_(builder, "conv2", {d_.channels, 2 * d_.channels, d_.rows / 2, d_.columns / 2}) {
    fc1_ = builder.linear("fc1", "fc1", conv2_.outputs(), d_.hidden, true);
    head_ = builder.head("classifier", d_.hidden, static_cast<std::int64_t>(info_.classes.size()),
                         file != nullptr && file->classes() == info_.classes);
  }

  // embed is the first convolution, block.0 the second, block.1 the fully connected layer.
  std::int64_t block_count() const override { return 2; }
  Input input_of(std::int64_t index) const override {
    return {index == 0 ? conv2_.inputs() : index == 1 ? conv2_.outputs() : d_.hidden, 1, 1};
  }
  PartState embed(const data::Batch& batch) const override {
    const at::Tensor x = view_of(image_of(batch)).flatten(1);
    return conv1_({x, std::vector<std::int64_t>(static_cast<std::size_t>(x.size(0)), 1)});
  }
  PartState block(std::int64_t index, const PartState& state) const override {
    if (index == 0) return conv2_(state);
    return {at::relu(fc1_(state.rows)), state.lengths};
  }
  at::Tensor head(const PartState& state) const override { return head_(state.rows); }

  void check(const data::Batch& batch) const override { check_images(batch, info_); }

  std::string config_json() const override {
    std::vector<std::pair<std::string, std::string>> members = {
        {"model_type", json_of("fedctl_cnn")},
        {"num_filters", std::to_string(d_.channels)},
        {"hidden_size", std::to_string(d_.hidden)}};
    for (auto& member : json_of_classes(info_.classes)) members.push_back(std::move(member));
    return json_object(members);
  }

  std::string settings() const override { return "cnn relu max"; }

 private:
  data::DatasetInfo info_;
  Dimensions d_;
  Convolution conv1_, conv2_;
  AdaptableLinear fc1_, head_;
};

}  // namespace

std::unique_ptr<Family> make_cnn(const LearnerSpec& spec, Builder& builder,
                                 const Checkpoint* file) {
  return std::make_unique<Cnn>(spec, builder, file);
}

}  // namespace fedctl::learn
