// TorchLearner: the Learner face on a Family. One thread each; all learners of a factory share the frozen base.
#include <malloc.h>

#include <algorithm>

#include "base/digest.hpp"
#include "learn/torch/builder.hpp"
#include "learn/torch/entry.hpp"
#include "learn/torch/save.hpp"

namespace fedctl::learn {
namespace {

namespace nn = torch::nn::functional;

// Once a process. Torch's and BLAS's threads stay at one: parallelism is one learner per worker. The allocator keeps freed
// pages: otherwise torch's buffers go back to the system at every step, up to 2.3 times slower.
void prepare_process() {
  static const bool kDone = [] {
    at::set_num_threads(1);
    at::set_num_interop_threads(1);
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 2'000'000'000);
    mallopt(M_TOP_PAD, 64 << 20);
    return true;
  }();
  static_cast<void>(kDone);
}

class TorchLearner final : public Learner {
 public:
  TorchLearner(const LearnerSpec& spec, Base& base, const Checkpoint* file, const std::string& digest)
      : spec_(spec), adapter_(make_adapter(spec.adapter)) {
    Builder builder(base, *adapter_);
    family_ = make_family(spec, builder, file);
    flat_ = builder.finish();
    if (flat_.layout.size() == 0) {
      throw ConfigError("adapter.kind " + spec.adapter.kind + " trains nothing in this model");
    }
    digest_ = digest;
    for (const auto& [name, tensor] : base.tensors) base_parameters_ += static_cast<std::size_t>(tensor.numel());
    base_ = &base;
  }

  const Layout& layout() const override { return flat_.layout; }
  std::span<float> weights() override { return window(flat_.weights); }
  std::span<float> gradient() override { return window(flat_.gradient); }

  double loss(const data::Batch& batch) override {
    at::set_num_threads(1);  // the count is a property of the calling thread
    const c10::InferenceMode guard;
    return forward_loss(batch).item<double>();
  }

  double loss_and_gradient(const data::Batch& batch) override {
    at::set_num_threads(1);
    flat_.gradient.zero_();
    const torch::Tensor loss = forward_loss(batch);
    loss.backward();
    return loss.item<double>();
  }

  Scores evaluate(const data::Batch& batch) override {
    at::set_num_threads(1);
    const c10::InferenceMode guard;
    family_->check(batch);
    const auto [logits, labels] = predictions(batch);
    const torch::Tensor per_item =
        nn::cross_entropy(logits, labels, nn::CrossEntropyFuncOptions().ignore_index(data::kIgnore).reduction(torch::kNone));
    const torch::Tensor counted = labels.ne(data::kIgnore);
    Scores scores;
    scores.loss_sum = per_item.to(torch::kFloat64).sum().item<double>();
    scores.correct = logits.argmax(1).eq(labels).logical_and(counted).sum().item<std::int64_t>();
    scores.count = counted.sum().item<std::int64_t>();
    return scores;
  }

  Tensor logits(const data::Batch& batch) override {
    const c10::InferenceMode guard;
    family_->check(batch);
    const torch::Tensor out = family_->logits(batch).contiguous();
    return Tensor::of(std::span<const float>(out.data_ptr<float>(), static_cast<std::size_t>(out.numel())),
                      Shape(out.sizes().begin(), out.sizes().end()));
  }

  void save_adapter(const std::string& folder, const std::map<std::string, std::string>& provenance) override {
    save_folder({spec_, *family_, flat_.layout, weights(), base_->tensors, folder, provenance});
  }

  std::string base_digest() const override { return digest_; }
  std::size_t base_parameters() const override { return base_parameters_; }

 private:
  static std::span<float> window(torch::Tensor& tensor) {
    return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
  }
  // Logits [predictions, classes] and their labels.
  std::pair<torch::Tensor, torch::Tensor> predictions(const data::Batch& batch) const {
    const auto found = batch.find("labels");
    if (found == batch.end()) throw DataError("the batch has no labels");
    const torch::Tensor logits = family_->logits(batch);
    return {logits.flatten(0, -2), view_of(found->second).flatten()};
  }
  torch::Tensor forward_loss(const data::Batch& batch) const {
    family_->check(batch);
    const auto [logits, labels] = predictions(batch);
    return nn::cross_entropy(logits, labels, nn::CrossEntropyFuncOptions().ignore_index(data::kIgnore));
  }

  LearnerSpec spec_;
  std::unique_ptr<Adapter> adapter_;
  std::unique_ptr<Family> family_;
  Builder::Flat flat_;
  std::string digest_;
  std::size_t base_parameters_ = 0;
  const Base* base_ = nullptr;
};

std::string digest_of_base(const Base& base) {
  Digest digest;
  for (const auto& [name, tensor] : base.tensors) {
    const torch::Tensor values = tensor.contiguous();
    digest.add(name).add(to_string(Shape(values.sizes().begin(), values.sizes().end())));
    digest.add(std::as_bytes(std::span<const float>(values.data_ptr<float>(), static_cast<std::size_t>(values.numel()))));
  }
  return digest.hex();
}

class TorchFactory final : public LearnerFactory {
 public:
  explicit TorchFactory(const LearnerSpec& spec) : spec_(spec) {
    const std::string& path = dynamic_cast<const ModelOptions&>(*spec.model.options).path;
    if (!path.empty()) file_ = Checkpoint::open(path, spec.model.kind);
    base_.file = file_.get();
    base_.rng = spec.rng;
  }

  // The first learner fills the base; the file is not needed after it.
  std::unique_ptr<Learner> make() override {
    if (digest_.empty()) {
      const std::unique_ptr<Adapter> adapter = make_adapter(spec_.adapter);
      Builder builder(base_, *adapter);
      make_family(spec_, builder, file_.get());
      digest_ = digest_of_base(base_);
    }
    return std::make_unique<TorchLearner>(spec_, base_, file_.get(), digest_);
  }

 private:
  LearnerSpec spec_;
  std::unique_ptr<Checkpoint> file_;
  Base base_;
  std::string digest_;
};

}  // namespace
}  // namespace fedctl::learn

extern "C" std::unique_ptr<fedctl::learn::LearnerFactory> fedctl_learn_torch_v1(const fedctl::learn::LearnerSpec& spec);
std::unique_ptr<fedctl::learn::LearnerFactory> fedctl_learn_torch_v1(const fedctl::learn::LearnerSpec& spec) {
  fedctl::learn::prepare_process();
  return std::make_unique<fedctl::learn::TorchFactory>(spec);
}
