// How families and adapters are put together: named parameters, frozen or trainable, all trainable ones windows on one
// flat buffer.
#pragma once

#include <torch/torch.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "learn/spec.hpp"
#include "learn/torch/checkpoint.hpp"

namespace fedctl::learn {

// Initial values; they come from the stream of the parameter's name, never from torch's generator.
struct Init {
  enum class Kind { zeros, ones, uniform, normal } kind = Kind::zeros;
  double scale = 0;  // bound of uniform, standard deviation of normal
  static Init zeros() { return {}; }
  static Init ones() { return {Kind::ones, 0}; }
  static Init uniform(double bound) { return {Kind::uniform, bound}; }
  static Init normal(double deviation) { return {Kind::normal, deviation}; }
};

// The frozen parameters, shared by all learners of a factory. Filled while the first learner is built.
struct Base {
  const Checkpoint* file = nullptr;  // null: random
  Rng rng{0};
  std::map<std::string, torch::Tensor> tensors;
};

class Builder;

// What an adapter adds to a frozen linear layer: y = base(x) + delta(x); x (..., in), result (..., out).
class Delta {
 public:
  virtual ~Delta() = default;
  virtual torch::Tensor delta(const torch::Tensor& x) const = 0;
};

class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual bool trains_base() const { return false; }
  virtual bool trains_head() const { return false; }
  virtual std::int64_t prompt_tokens() const { return 0; }
  // The adapter's part of the layer `module`, or nullptr.
  virtual std::unique_ptr<Delta> adapt(Builder&, const std::string& /*module*/, const std::string& /*target*/,
                                       std::int64_t /*in*/, std::int64_t /*out*/) const {
    return nullptr;
  }
};
std::unique_ptr<Adapter> make_adapter(const config::Plugin& adapter);

struct AdaptableLinear {
  torch::Tensor weight, bias;  // [out, in], [out] or undefined
  std::unique_ptr<Delta> delta;

  torch::Tensor operator()(const torch::Tensor& x) const {
    torch::Tensor y = torch::linear(x, weight, bias);
    return delta ? y + delta->delta(x) : y;
  }
};

class Builder {
 public:
  Builder(Base& base, const Adapter& adapter) : base_(base), adapter_(adapter) {}

  const Adapter& adapter() const { return adapter_; }

  // A parameter of the base: from the file, or initialised. Trainable if the adapter trains the base.
  torch::Tensor parameter(const std::string& name, const Shape& shape, Init init);
  // A linear layer that adapters may target ("" = none may).
  AdaptableLinear linear(const std::string& module, const std::string& target, std::int64_t in,
                         std::int64_t out, bool bias);
  // The classifier: from the file if its classes are the data's, else fresh.
  AdaptableLinear head(const std::string& module, std::int64_t in, std::int64_t out, bool from_file);
  // A trainable parameter with given first values; the handle's data is set by finish().
  torch::Tensor trainable(const std::string& name, const std::string& group, const torch::Tensor& first);
  torch::Tensor trainable(const std::string& name, const std::string& group, const Shape& shape, Init init);

  // Lays all trainable parameters and their gradients into two flat buffers.
  struct Flat {
    Layout layout;
    torch::Tensor weights, gradient;  // [layout.size()]
  };
  Flat finish();

 private:
  torch::Tensor initial(const std::string& name, const Shape& shape, Init init) const;

  Base& base_;
  const Adapter& adapter_;
  Layout layout_;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> trainable_;  // handle, first values
};

// A model: logits from a batch.
class Family {
 public:
  virtual ~Family() = default;
  // [n, classes], or [n, t, vocabulary] for language. Precondition: check() passed.
  virtual torch::Tensor logits(const data::Batch& batch) const = 0;
  // Throws DataError if the batch does not fit the model.
  virtual void check(const data::Batch& batch) const = 0;
  // HF config.json of this model, as JSON text; `adapter` says that only an adapter is saved beside it.
  virtual std::string config_json() const = 0;
  virtual const char* task_type() const = 0;  // PEFT's
};
std::unique_ptr<Family> make_family(const LearnerSpec& spec, Builder& builder, const Checkpoint* file);

// Windows on host tensors of a batch; no copy.
torch::Tensor view_of(const Tensor& tensor);
// Throws DataError naming `what` if a value is outside [low, high).
void require_range(const Tensor& tensor, std::int64_t low, std::int64_t high, const char* what, bool ignore_allowed);

}  // namespace fedctl::learn
