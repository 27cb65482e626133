// TorchLearner: the Learner face on a Family. One thread each; all learners of a factory share the
// frozen base.
#include <ATen/Parallel.h>

#include <mutex>
#include <optional>

#include "base/digest.hpp"
#include "learn/torch/builder.hpp"
#include "learn/torch/convert.hpp"
#include "learn/torch/entry.hpp"
#include "learn/torch/loops.hpp"
#include "learn/torch/merge.hpp"
#include "learn/torch/part_runner.hpp"
#include "learn/torch/peft_read.hpp"
#include "learn/torch/save.hpp"
#include "learn/torch/summary.hpp"

namespace fedctl::learn {
namespace {

// Parallelism is one learner per worker, as a rule; more threads below would fight for the same
// cores. OpenMP keeps the count per thread, so every thread that calls a learner says it.
void use_threads(std::size_t count) {
  static thread_local std::size_t set = 0;
  if (set == count) return;
  at::set_num_threads(static_cast<int>(count));
  set = count;
}

Frozen frozen_of(const Base& base) {
  Frozen frozen;
  for (const auto& [name, tensor] : base.of_adapter) frozen.emplace(name, values_of(tensor));
  return frozen;
}

const std::string& adapter_path(const LearnerSpec& spec) {
  static const std::string kNone;
  const auto* options = dynamic_cast<const AdapterOptions*>(spec.adapter.options.get());
  return options == nullptr ? kNone : options->path;
}

bool keeps_half(const LearnerSpec& spec) {
  return dynamic_cast<const ModelOptions&>(*spec.model.options).backbone_dtype == "bfloat16";
}

// What all learners of a factory read.
struct Shared {
  LearnerSpec spec;
  std::unique_ptr<Checkpoint> file;
  Base base;
  BaseSummary summary;
  std::vector<float> first;  // weights to start from, where adapter.path gives them
};

class TorchLearner final : public Learner {
 public:
  explicit TorchLearner(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), adapter_(make_adapter(shared_->spec.adapter)) {
    Builder builder(shared_->base, *adapter_, keeps_half(shared_->spec));
    family_ = make_family(shared_->spec, builder, shared_->base.file);
    modules_ = builder.modules();
    flat_ = builder.finish();
    adapted_ = builder.adapted();
    prefix_ = builder.prefix_made();
    noise_ = builder.noise();
    if (const auto* parted = dynamic_cast<const PartedFamily*>(family_.get())) {
      parts_.emplace(*parted);
    }
    if (shared_->spec.fused) fused_ = family_->fused();
    std::ranges::copy(shared_->first, weights().begin());
  }

  const Layout& layout() const override { return flat_.layout; }
  std::span<float> weights() override { return values_of(flat_.weights); }
  std::span<float> gradient() override { return values_of(flat_.gradient); }

  double loss(const data::Batch& batch) override { return mean(evaluate(batch)); }

  double loss_and_gradient(const data::Batch& batch) override {
    use_threads(threads_);
    const std::int64_t* labels = labels_of(batch);
    flat_.gradient.zero_();
    if (fused_) return mean(fused_->loss_and_gradient(batch, smoothing_));
    const at::Tensor logits = training_logits(batch);
    at::Tensor by_logits = at::empty_like(logits);
    const loops::CrossEntropy result = loops::cross_entropy_with_gradient(
        logits.size(0), logits.size(1), logits.data_ptr<float>(), labels, data::kIgnore,
        by_logits.data_ptr<float>(), smoothing_);
    logits.backward(by_logits);
    return mean({result.loss_sum, result.correct, result.count});
  }

  void set_threads(std::size_t count) override { threads_ = count; }
  void set_noise(const Rng& rng) override {
    noise_stream_ = rng;
    passes_ = 0;
  }
  void set_label_smoothing(double share) override { smoothing_ = share; }

  Scores evaluate(const data::Batch& batch) override { return score(batch, nullptr); }
  Scores evaluate(const data::Batch& batch, Tensor& logits_out) override {
    return score(batch, &logits_out);
  }

  std::int64_t context() const override { return family_->context(); }
  Tensor logits(const data::Batch& batch) override {
    use_threads(threads_);
    family_->check(batch);
    if (fused_) {
      Tensor logits = room_for_logits(batch);
      fused_->evaluate(batch, logits.f32().data());
      return logits;
    }
    const at::NoGradGuard guard;
    return copy_of(family_->logits(batch));
  }

  std::vector<std::string> parts() const override {
    return parts_ ? parts_->names() : Learner::parts();
  }

  TensorMap forward(std::string_view part, const TensorMap& inputs) override {
    use_threads(threads_);
    if (adapter_->has_dropout()) {
      throw ConfigError("adapter.dropout is set, but the parts of a model are run without dropout",
                        "leave it out where the model is split");
    }
    return parts_ ? parts_->forward(part, inputs) : Learner::forward(part, inputs);
  }

  TensorMap backward(std::string_view part, const TensorMap& output_gradients) override {
    use_threads(threads_);
    return parts_ ? parts_->backward(part, output_gradients)
                  : Learner::backward(part, output_gradients);
  }

  AdapterFiles adapter_files() override { return learn::adapter_files(saved()); }
  void load_adapter(const std::string& folder) override {
    read_adapter(folder, shared_->spec.adapter, flat_.layout, frozen_of(shared_->base), weights());
  }
  void save_merged(const std::string& folder, const std::map<std::string, std::string>& provenance,
                   data::Storage storage) override {
    learn::save_adapter(merged_files(saved()), {}, {}, folder, provenance, storage);
  }

  std::string base_digest() const override { return shared_->summary.digest; }
  std::size_t base_parameters() const override { return shared_->summary.parameters; }

 private:
  Saved saved() {
    return {shared_->spec, *adapter_,    *family_,  modules_,     adapted_,
            prefix_,       flat_.layout, weights(), shared_->base};
  }
  // Each pass has a stream of its own, so that the masks do not depend on what came before.
  at::Tensor training_logits(const data::Batch& batch) {
    *noise_ = {true, noise_stream_.stream("pass", passes_++)};
    at::Tensor logits = family_->logits(batch);
    noise_->training = false;
    return logits;
  }
  Scores score(const data::Batch& batch, Tensor* logits_out) {
    use_threads(threads_);
    const std::int64_t* labels = labels_of(batch);
    if (fused_) {
      if (logits_out == nullptr) return fused_->evaluate(batch, nullptr);
      *logits_out = room_for_logits(batch);
      return fused_->evaluate(batch, logits_out->f32().data());
    }
    const at::NoGradGuard guard;
    const at::Tensor logits = family_->logits(batch);
    if (logits_out != nullptr) *logits_out = copy_of(logits);
    const loops::CrossEntropy result = loops::cross_entropy(
        logits.size(0), logits.size(1), logits.data_ptr<float>(), labels, data::kIgnore);
    return {result.loss_sum, result.correct, result.count};
  }
  Tensor room_for_logits(const data::Batch& batch) const {
    return Tensor::zeros(DType::f32, {batch.at("tokens").shape[0], fused_->classes()});
  }
  static double mean(const Scores& scores) {
    // A batch may have nothing to predict (texts whose answers were all cut off): no loss, no step.
    return scores.count == 0 ? 0 : scores.loss_sum / static_cast<double>(scores.count);
  }
  // The labels of a batch that fits.
  const std::int64_t* labels_of(const data::Batch& batch) const {
    family_->check(batch);
    const auto found = batch.find("labels");
    if (found == batch.end()) throw DataError("the batch has no labels");
    return found->second.i64().data();
  }

  // Kept alive by every learner: the factory may go first.
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<Adapter> adapter_;
  std::unique_ptr<Family> family_;
  std::optional<PartRunner> parts_;  // of a PartedFamily
  std::multimap<std::string, std::string> modules_;
  Builder::Flat flat_;
  std::unique_ptr<FusedStep> fused_;  // where the family has one for this model
  std::vector<Adapted> adapted_;
  Prefix prefix_;
  std::shared_ptr<Noise> noise_;
  Rng noise_stream_{0};
  std::int64_t passes_ = 0;  // since set_noise()
  double smoothing_ = 0;
  std::size_t threads_ = 1;
};

class TorchFactory final : public LearnerFactory {
 public:
  // Builds the model once, which fills the base and finds all that does not fit; after that the
  // base is only read, by any thread.
  explicit TorchFactory(const LearnerSpec& spec) : shared_(std::make_shared<Shared>()) {
    use_threads(1);
    const std::string& path = dynamic_cast<const ModelOptions&>(*spec.model.options).path;
    Shared& s = *shared_;
    s.spec = spec;
    if (!path.empty()) s.file = Checkpoint::open(path, spec.model.kind);
    s.base.file = s.file.get();
    s.base.rng = spec.rng;
    const std::unique_ptr<Adapter> adapter = make_adapter(spec.adapter);
    Builder builder(s.base, *adapter, keeps_half(spec));
    const std::unique_ptr<Family> family = make_family(spec, builder, s.file.get());
    const Builder::Flat flat = builder.finish();
    const Layout& layout = flat.layout;
    if (layout.size() == 0) {
      throw ConfigError("adapter.kind is " + spec.adapter.kind +
                        ": it leaves nothing to train in this model");
    }
    std::string settings = family->settings();
    if (const std::string& folder = adapter_path(spec); !folder.empty()) {
      // Parts that the folder does not have start as they would without it.
      const std::span<const float> fresh = values_of(flat.weights);
      s.first.assign(fresh.begin(), fresh.end());
      read_adapter(folder, spec.adapter, layout, frozen_of(s.base), s.first);
      settings += " from " + digest_of(as_bytes_of(std::span<const float>(s.first)));
    }
    s.summary = summarize(s.base, layout, settings);
    s.base.complete = true;
    if (s.file) s.file->release();
  }

  std::unique_ptr<Learner> make() override {
    use_threads(1);
    return std::make_unique<TorchLearner>(shared_);
  }

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace
}  // namespace fedctl::learn

extern "C" std::unique_ptr<fedctl::learn::LearnerFactory> fedctl_learn_torch_v1(
    const fedctl::learn::LearnerSpec& spec);

std::unique_ptr<fedctl::learn::LearnerFactory> fedctl_learn_torch_v1(
    const fedctl::learn::LearnerSpec& spec) {
  static std::once_flag once;  // LibTorch refuses it a second time
  std::call_once(once, [] { at::set_num_interop_threads(1); });
  return std::make_unique<fedctl::learn::TorchFactory>(spec);
}
