#include "learn/quadratic.hpp"

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "data/safetensors.hpp"

namespace fedctl::learn {
namespace {

class Quadratic final : public Learner {
 public:
  explicit Quadratic(std::size_t dimension) : weights_(dimension) {
    layout_.add("w", "base", {static_cast<std::int64_t>(dimension)});
  }

  const Layout& layout() const override { return layout_; }
  std::span<float> weights() override { return weights_; }
  // Memory for it is taken with its first use: a server only evaluates.
  std::span<float> gradient() override {
    gradient_.resize(weights_.size());
    return gradient_;
  }

  double loss(const data::Batch& batch) override {
    const Scores scores = evaluate(batch);
    return scores.loss_sum / static_cast<double>(scores.count);
  }

  double loss_and_gradient(const data::Batch& batch) override {
    const std::span<const float> targets = rows_of(batch, "target");
    const std::span<const float> curvature = curvature_of(batch);
    const std::size_t count = targets.size() / weights_.size();
    const std::span<float> slope = gradient();
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      double sum = 0;
      for (std::size_t n = 0; n < count; ++n) {
        const std::size_t at = n * weights_.size() + i;
        sum += curvature.empty() ? targets[at]
                                 : curvature[at] * (double{weights_[i]} - double{targets[at]});
      }
      const double mean = sum / static_cast<double>(count);
      slope[i] = static_cast<float>(curvature.empty() ? weights_[i] - mean : mean);
    }
    return loss(batch);
  }

  Scores evaluate(const data::Batch& batch) override {
    const std::span<const float> targets = rows_of(batch, "target");
    const std::span<const float> curvature = curvature_of(batch);
    double squares = 0;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const double distance = static_cast<double>(weights_[i % weights_.size()]) - targets[i];
      squares += (curvature.empty() ? 1 : double{curvature[i]}) * distance * distance;
    }
    return {.loss_sum = 0.5 * squares,
            .count = static_cast<std::int64_t>(targets.size() / weights_.size())};
  }

  Tensor logits(const data::Batch&) override {
    throw DataError("the quadratic model has no logits");
  }

  AdapterFiles adapter_files() override {
    AdapterFiles files;
    files.weights_name = "model.safetensors";
    files.config_name = "config.json";
    files.config =
        R"({"model_type": "quadratic", "dimension": )" + std::to_string(weights_.size()) + '}';
    files.names = {"w"};
    return files;
  }

  void load_adapter(const std::string& folder) override {
    const auto file = data::Safetensors::open(folder + "/model.safetensors");
    const Shape& shape = layout_.block("w").shape;
    if (file.shape("w") != shape) {
      throw DataError(folder + "/model.safetensors: tensor \"w\" is " + to_string(file.shape("w")) +
                      ", expected " + to_string(shape));
    }
    file.f32_into("w", weights_);
  }
  void save_merged(const std::string& folder, const std::map<std::string, std::string>& provenance,
                   data::Storage) override {
    save_adapter(folder, provenance);
  }

  // Nothing is frozen: the hash of no bytes.
  std::string base_digest() const override { return digest_of({}); }
  std::size_t base_parameters() const override { return 0; }

 private:
  // [n,d], n > 0, as one row after the other.
  std::span<const float> rows_of(const data::Batch& batch, const std::string& name) const {
    const auto found = batch.find(name);
    if (found == batch.end()) {
      throw DataError("the quadratic model needs a batch with \"" + name + '"');
    }
    const Tensor& rows = found->second;
    const auto dimension = static_cast<std::int64_t>(weights_.size());
    if (rows.dtype != DType::f32 || rows.shape.size() != 2 || rows.shape[0] < 1 ||
        rows.shape[1] != dimension) {
      throw DataError('"' + name + "\" is " + dtype_name(rows.dtype) + to_string(rows.shape) +
                      ", the quadratic model needs f32[n," + std::to_string(dimension) + "]");
    }
    return rows.f32();
  }
  // Of every target; empty: all are 1.
  std::span<const float> curvature_of(const data::Batch& batch) const {
    if (!batch.contains("curvature")) return {};
    const std::span<const float> curvature = rows_of(batch, "curvature");
    if (curvature.size() != rows_of(batch, "target").size()) {
      throw DataError("the batch has other numbers of \"target\" and of \"curvature\"");
    }
    return curvature;
  }

  Layout layout_;
  std::vector<float> weights_;
  std::vector<float> gradient_;
};

class QuadraticFactory final : public LearnerFactory {
 public:
  explicit QuadraticFactory(std::size_t dimension) : dimension_(dimension) {}
  std::unique_ptr<Learner> make() override { return std::make_unique<Quadratic>(dimension_); }

 private:
  const std::size_t dimension_;
};

}  // namespace

std::unique_ptr<LearnerFactory> make_quadratic_factory(const LearnerSpec& spec) {
  const auto fail = [](const config::Plugin& plugin, const std::string& what,
                       const std::string& hint) {
    throw ConfigError(plugin.place.empty() ? what : plugin.place + ": " + what, hint);
  };
  if (spec.adapter.kind != "full") {
    fail(spec.adapter,
         "model.kind and adapter.kind: quadratic is trained in full, not with " + spec.adapter.kind,
         "adapter: {kind: full}");
  }
  const std::size_t dimension = element_count(spec.data.input_shape);
  if (spec.data.input_shape.empty() || dimension == 0) {
    fail(spec.model, "model.kind and data.kind: quadratic needs vectors, not tokens",
         "data whose batches hold \"target\"");
  }
  return std::make_unique<QuadraticFactory>(dimension);
}

}  // namespace fedctl::learn
