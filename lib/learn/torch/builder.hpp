// How families and adapters are put together: named parameters, frozen or trainable. The frozen
// ones are shared by all learners of a factory; the trainable ones of a learner are windows on one
// flat buffer.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "learn/spec.hpp"
#include "learn/torch/aten.hpp"
#include "learn/torch/checkpoint.hpp"
#include "learn/torch/fused.hpp"

namespace fedctl::learn {

// Initial values; they come from the stream of the parameter's name, never from torch's generator,
// so they depend neither on the order of construction nor on the thread.
struct Init {
  enum class Kind { zeros, ones, uniform, normal } kind = Kind::zeros;
  double scale = 0;  // bound of uniform, standard deviation of normal
  static Init zeros() { return {}; }
  static Init ones() { return {Kind::ones, 0}; }
  static Init uniform(double bound) { return {Kind::uniform, bound}; }
  static Init normal(double deviation) { return {Kind::normal, deviation}; }
  // 1 / sqrt(inputs): what PyTorch's linear layers start from.
  static Init linear(std::int64_t inputs);
};

// The base's parameters with the values that training starts from. Filled while the factory is
// made; only read afterwards, by any number of threads.
struct Base {
  const Checkpoint* file = nullptr;  // null: random
  Rng rng{0};
  std::map<std::string, at::Tensor> tensors;
  std::set<std::string> constants;  // those of `tensors` that are no parameters
  // Of those that are kept in bfloat16: the digest of their values as they were read.
  std::map<std::string, std::string> rounded;
  std::map<std::string, at::Tensor> of_adapter;  // frozen, and no part of the model: VeRA's A and B
  bool complete = false;  // asking for a parameter that is not there is a bug from now on
};

class Builder;

// What a pass in training mode draws from, dropout's masks; all deltas of a learner share it.
struct Noise {
  bool training = false;
  Rng rng{0};
};

// How a linear layer's matrix lies in HF's files, and so in ours and in memory: [out, in], or [in,
// out] as GPT-2's (Conv1D).
enum class Storage { output_first, input_first };

// What an adapter makes of a frozen linear layer: y = output(W input(x) + b, x).
class Delta {
 public:
  virtual ~Delta() = default;
  // x (rows, in) as the frozen layer is to see it.
  virtual at::Tensor input(const at::Tensor& x) const { return x; }
  // From the frozen layer's y (rows, out), bias included, and the layer's x. May overwrite y, which
  // nobody else needs.
  virtual at::Tensor output(const at::Tensor& y, const at::Tensor& x) const = 0;
  // Whether output() is y plus something of x alone, so that y may hold a residual already.
  virtual bool only_adds() const { return true; }
  // The weight [out, in] and the bias [out] of the plain layer that does the same.
  virtual at::Tensor merged(const at::Tensor& weight) const = 0;
  virtual at::Tensor merged_bias(const at::Tensor& bias) const { return bias; }
  // Where all it does, in training too, is to add scale * b a x: a [rank, in], b [out, rank].
  struct Pair {
    at::Tensor a, b;
    double scale;
  };
  virtual std::optional<Pair> pair() const { return std::nullopt; }
};

// A linear layer that an adapter may hang on: x (rows, in) -> (rows, out).
struct AdaptableLinear {
  at::Tensor weight, bias;  // as `storage` says, float32 or bfloat16; [out] or undefined
  Storage storage = Storage::output_first;
  std::shared_ptr<const Delta> delta;

  at::Tensor operator()(const at::Tensor& x) const;
  // residual + the layer's output, without a pass of its own for the sum.
  at::Tensor onto(const at::Tensor& residual, const at::Tensor& x) const;
  // [out, in], float32.
  at::Tensor matrix() const;

 private:
  at::Tensor frozen(const at::Tensor& x, const at::Tensor& residual) const;
};

// Where an adapter may hang: the module's name, its canonical target, its frozen layer.
struct Site {
  const std::string& module;
  const std::string& target;
  std::int64_t in, out;
  const AdaptableLinear& layer;
};

// A layer that an adapter hangs on.
struct Adapted {
  std::string module, target;
  Storage storage;
  std::shared_ptr<const Delta> delta;
};

// Keys and values that stand before every sequence in each attention layer, all in one matrix
// [tokens, depth * 2 * heads * head_width]: of layer 0 the keys, the values, of layer 1 the keys
// and so on. No tokens: there is no prefix.
struct Prefix {
  at::Tensor embeddings;
  std::int64_t tokens = 0, depth = 0, heads = 0, width = 0;  // width: heads * head_width

  at::Tensor keys(std::int64_t layer) const { return part(2 * layer); }
  at::Tensor values(std::int64_t layer) const { return part(2 * layer + 1); }

 private:
  at::Tensor part(std::int64_t index) const {
    return tokens == 0 ? at::Tensor() : embeddings.narrow(1, index * width, width);
  }
};

// What an adapter's part of PEFT's adapter_config.json is made from.
struct PeftContext {
  const Layout& layout;
  const std::vector<Adapted>& adapted;
  const Prefix& prefix;
  std::function<std::string(const std::string& module)> name;  // in PEFT's model
  // JSON list of endings that PEFT finds these modules by, and no others.
  std::function<std::string(const std::vector<std::string>& modules)> endings;
};
using JsonMembers = std::vector<std::pair<std::string, std::string>>;  // values are JSON

class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual bool trains_base() const { return false; }
  virtual bool trains_biases() const { return false; }
  // Trains the output layer: the classifier, or a language model's output matrix (a copy of its
  // own where that is tied to the embedding).
  virtual bool trains_head() const { return false; }
  virtual bool has_dropout() const { return false; }
  virtual std::int64_t prompt_tokens() const { return 0; }
  virtual std::int64_t prefix_tokens() const { return 0; }
  // The adapter's part of a layer, or nullptr.
  virtual std::shared_ptr<const Delta> adapt(Builder&, const Site&) const { return nullptr; }
  // After the last layer. Throws ConfigError if a pattern named no layer.
  virtual void complete(Builder&) const {}
  // Its members of adapter_config.json; none: what it trains is saved as a whole model.
  virtual JsonMembers peft_config(const PeftContext&) const { return {}; }
};
std::unique_ptr<Adapter> make_adapter(const config::Plugin& adapter);

class Builder {
 public:
  // `half`: frozen matrices of linear layers are to be kept in bfloat16.
  Builder(Base& base, const Adapter& adapter, bool half = false)
      : base_(base), adapter_(adapter), half_(half) {}

  const Adapter& adapter() const { return adapter_; }

  // A parameter of the base: from the file, or initialised. Trainable if the adapter trains the
  // base.
  at::Tensor parameter(const std::string& name, const Shape& shape, Init init);
  // Values of the file that are no parameters and never train: a front end's matrices.
  // Precondition: there is a file.
  at::Tensor constant(const std::string& name, const Shape& shape);
  // A linear layer that adapters may target.
  AdaptableLinear linear(const std::string& module, const std::string& target, std::int64_t in,
                         std::int64_t out, bool bias, Storage storage = Storage::output_first);
  // The classifier: from the file if its classes are the data's, else fresh.
  AdaptableLinear head(const std::string& module, std::int64_t in, std::int64_t out,
                       bool from_file);
  // A trainable parameter with given first values; the handle's data is set by finish().
  at::Tensor trainable(const std::string& name, const std::string& group, const at::Tensor& first);
  at::Tensor trainable(const std::string& name, const std::string& group, const Shape& shape,
                       Init init);

  // The trainable prefix of `depth` attention layers whose keys have `heads` heads, `width` numbers
  // in all. A family hands its keys(i) and values(i), taken anew in each pass, to ops::attention().
  Prefix prefix(std::int64_t depth, std::int64_t heads, std::int64_t width);
  // Frozen values of the adapter's own, shared by all learners.
  at::Tensor frozen(const std::string& name, const Shape& shape, Init init);

  // The stream of a parameter's name, for initial values that Init cannot say.
  Rng stream(const std::string& name) const { return base_.rng.stream(name); }

  // Modules of the linear layers made so far, by target; those that cannot be targeted under "".
  const std::multimap<std::string, std::string>& modules() const { return modules_; }
  const std::vector<Adapted>& adapted() const { return adapted_; }
  const Prefix& prefix_made() const { return prefix_; }
  const std::shared_ptr<Noise>& noise() const { return noise_; }

  // Lays all trainable parameters and their gradients into two flat buffers.
  struct Flat {
    Layout layout;
    at::Tensor weights, gradient;  // [layout.size()]
  };
  Flat finish();

 private:
  // The base's values of `name`, made when they are first asked for.
  const at::Tensor& base_values(const std::string& name, const Shape& shape, Init init,
                                bool from_file);
  // The base's values of `name`, a frozen matrix, in bfloat16 from now on.
  const at::Tensor& round_values(const std::string& name);
  at::Tensor initial(const std::string& name, const Shape& shape, Init init) const;

  Base& base_;
  const Adapter& adapter_;
  bool half_;
  std::shared_ptr<Noise> noise_ = std::make_shared<Noise>();
  std::vector<Adapted> adapted_;
  Prefix prefix_;
  Layout layout_;
  std::vector<std::pair<at::Tensor, at::Tensor>> trainable_;  // handle, first values
  std::multimap<std::string, std::string> modules_;
};

// A model: logits from a batch.
class Family {
 public:
  virtual ~Family() = default;
  // One row of logits a prediction: (n, classes), or (total, vocabulary) for language.
  // Precondition: check() passed.
  virtual at::Tensor logits(const data::Batch& batch) const = 0;
  // Throws DataError if the batch does not fit the model.
  virtual void check(const data::Batch& batch) const = 0;
  // Tokens of the longest text, where the model reads text.
  virtual std::int64_t context() const { return std::numeric_limits<std::int64_t>::max(); }
  // HF config.json of this model, as JSON text.
  virtual std::string config_json() const = 0;
  // What the shapes of the parameters do not say (heads, constants); part of the base's digest.
  virtual std::string settings() const = 0;
  virtual const char* task_type() const { return nullptr; }  // PEFT's, or null if it has none
  // Whether the layers that adapters target are stored input first (PEFT's name for it).
  virtual bool fan_in_fan_out() const { return false; }
  // The same model in loops of its own, where the family has them for this shape and adapter and
  // they are faster; null if not. Windows on the family's parameters, which outlive it.
  // Precondition: the builder is finished.
  virtual std::unique_ptr<FusedStep> fused() const { return nullptr; }
};

// What passes between the parts of a model: the rows of all examples, one after the other, and how
// many each example has.
struct PartState {
  at::Tensor rows;  // [sum of lengths, width]
  std::vector<std::int64_t> lengths;
};

// A family whose parts can be run apart, as split methods need it: "embed", "block.0" and so on,
// "head". Nothing but a PartState passes between them.
class PartedFamily : public Family {
 public:
  struct Input {
    std::int64_t width, length_min, length_max;  // lengths: rows an example
  };
  virtual std::int64_t block_count() const = 0;
  // What block `index` takes, or the head if `index` is block_count().
  virtual Input input_of(std::int64_t index) const = 0;
  // Preconditions: check() passed; the state is as input_of() says.
  virtual PartState embed(const data::Batch& batch) const = 0;
  virtual PartState block(std::int64_t index, const PartState& state) const = 0;
  virtual at::Tensor head(const PartState& state) const = 0;

  // The parts, one after the other.
  at::Tensor logits(const data::Batch& batch) const final;
};

std::unique_ptr<Family> make_family(const LearnerSpec& spec, Builder& builder,
                                    const Checkpoint* file);

}  // namespace fedctl::learn
