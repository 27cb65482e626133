// Learner: a model with its trainable parameters in one flat vector, as methods see it. No torch
// here: the torch families and the quadratic toy stand behind the same face, and everything that is
// not the model itself (optimisers, epochs, hooks) is plain code in learn/train.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/errors.hpp"
#include "base/layout.hpp"
#include "base/rng.hpp"
#include "data/dataset.hpp"
#include "data/safetensors.hpp"
#include "learn/adapter_files.hpp"

namespace fedctl::learn {

// Sums over the examples of a batch, so that batches add up in any grouping.
struct Scores {
  double loss_sum = 0;  // nats
  std::int64_t correct = 0;
  std::int64_t count = 0;  // predictions: examples, or target tokens
  Scores& operator+=(const Scores& other) {
    loss_sum += other.loss_sum;
    correct += other.correct;
    count += other.count;
    return *this;
  }
  bool operator==(const Scores&) const = default;
};

class Learner {
 public:
  virtual ~Learner() = default;

  virtual const Layout& layout() const = 0;
  // The live trainable parameters; writing to them changes the model. layout().size() floats.
  // Freshly made learners hold the initial values, which depend only on the experiment (spec, seed,
  // base file).
  virtual std::span<float> weights() = 0;
  // The gradient left by the last call of loss_and_gradient().
  virtual std::span<float> gradient() = 0;

  // Mean loss over the predictions of the batch; nats. Throws DataError if the batch does not fit.
  virtual double loss(const data::Batch& batch) = 0;
  // The same, in training mode, and fills gradient() with d loss / d weights.
  virtual double loss_and_gradient(const data::Batch& batch) = 0;
  // The loss of loss_and_gradient() from now on: (1 - share) of the target on the label and `share`
  // spread over all classes. A learner without classes takes no notice.
  virtual void set_label_smoothing(double share) { static_cast<void>(share); }
  // Threads below the next calls, for learners that can use more than one.
  virtual void set_threads(std::size_t count) { static_cast<void>(count); }
  // Where loss_and_gradient() draws from (dropout), from now on. A learner that draws nothing takes
  // no notice.
  virtual void set_noise(const Rng& rng) { static_cast<void>(rng); }
  virtual Scores evaluate(const data::Batch& batch) = 0;
  // The same, and the logits they come from, in one pass where the model can.
  virtual Scores evaluate(const data::Batch& batch, Tensor& logits_out) {
    logits_out = logits(batch);
    return evaluate(batch);
  }

  // Tokens of the longest text.
  virtual std::int64_t context() const { return std::numeric_limits<std::int64_t>::max(); }
  // Logits [n, classes] or [total, vocabulary] of a batch (labels may be missing).
  virtual Tensor logits(const data::Batch& batch) = 0;

  // Parts, for methods that split the model between parties: "embed", "block.0" and so on, "head",
  // in this order; none if the model cannot be cut. What passes between them is "rows" f32 [sum of
  // lengths, width], the tokens of all examples one after the other, and "lengths" i64 [n].
  virtual std::vector<std::string> parts() const { return {}; }
  // embed: a batch (labels may be missing) -> rows, lengths; block.i: rows, lengths -> the same;
  // head: rows, lengths -> "logits", a row a prediction. One part after the other gives what
  // logits() gives, to the rounding. What backward() needs of the last call of each part is kept.
  // Throws DataError naming the part if the inputs do not fit it (of embed, as loss() does),
  // ConfigError if there is no such part.
  virtual TensorMap forward(std::string_view part, const TensorMap& /*inputs*/) {
    throw no_part(part);
  }
  // From the gradients of the outputs ("rows", of the head "logits") to those of the inputs
  // ("rows"; nothing of embed). Adds to gradient() what belongs to the part's parameters: set it to
  // zero before a step. Precondition: forward(part) came before, once for every backward(part), and
  // weights() are still the same. Throws DataError if a gradient is not shaped like its output.
  virtual TensorMap backward(std::string_view part, const TensorMap& /*output_gradients*/) {
    throw no_part(part);
  }

  // What files people load elsewhere need beside the trained parameters. Always the same.
  virtual AdapterFiles adapter_files() = 0;
  // Those files, with the weights there are now. Throws RunDirectoryError if that fails.
  void save_adapter(const std::string& folder,
                    const std::map<std::string, std::string>& provenance) {
    learn::save_adapter(adapter_files(), layout(), weights(), folder, provenance);
  }

  // Sets weights() from such a folder, which may also be PEFT's own: LORA, PROMPT_TUNING or
  // PREFIX_TUNING as the adapter asks for; head and full read a whole model. Throws DataError
  // naming the file and the tensor that do not fit; weights() are as before then.
  virtual void load_adapter(const std::string& folder) = 0;
  // The whole model as an HF folder, the adapter merged into its weights. Throws ConfigError if the
  // adapter is none that can be merged.
  virtual void save_merged(const std::string& folder,
                           const std::map<std::string, std::string>& provenance,
                           data::Storage storage) = 0;

  // Frozen parameters: what both sides must have alike. Hash over names, shapes and bytes.
  virtual std::string base_digest() const = 0;
  virtual std::size_t base_parameters() const = 0;

 private:
  static ConfigError no_part(std::string_view part) {
    return ConfigError("this model has no part \"" + std::string(part) +
                       "\": it cannot be cut into parts");
  }
};

// Makes learners that share one frozen base. Thread-safe: each worker makes its own learner.
class LearnerFactory {
 public:
  virtual ~LearnerFactory() = default;
  virtual std::unique_ptr<Learner> make() = 0;
};

}  // namespace fedctl::learn
