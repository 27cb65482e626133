// Local training: optimisers on flat vectors and the loop over batches. Torch-free,
// single-threaded, the same for every Learner.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.hpp"
#include "config/fields.hpp"
#include "data/dataset.hpp"
#include "learn/learner.hpp"
#include "learn/schedule.hpp"

namespace fedctl::learn {

// Steps on a flat vector, each weight by itself; the state lives as long as the optimizer does (one
// local training).
class Optimizer {
 public:
  explicit Optimizer(std::size_t size) : runs_{{0, size, true}} {}
  virtual ~Optimizer() = default;
  void step(std::span<float> weights, std::span<const float> gradient, double lr);

  // Consecutive weights that are decayed alike.
  struct Run {
    std::size_t first = 0, count = 0;
    bool decay = true;
    bool operator==(const Run&) const = default;
  };
  // Together the runs are the whole vector, in order.
  void set_runs(std::vector<Run> runs) { runs_ = std::move(runs); }

  // What the next steps depend on, to be kept and put back: the steps so far, and the vectors of
  // the weights' length.
  int steps() const { return steps_; }  // in update(): the one that goes on included
  void set_steps(int steps) { steps_ = steps; }
  virtual std::vector<std::span<float>> memory() { return {}; }

 protected:
  // The weights behind `first`, as one step that began in step() asks.
  virtual void update(std::size_t first, std::span<float> weights, std::span<const float> gradient,
                      double lr, bool decay) = 0;

 private:
  std::vector<Run> runs_;
  int steps_ = 0;
};

struct OptimizerEntry {
  config::Kind kind;
  std::function<std::unique_ptr<Optimizer>(const config::Options&, std::size_t size)> make;
};
const std::vector<OptimizerEntry>& optimizers();  // optimizers.def
const config::Kinds& optimizer_kinds();
double learning_rate(const config::Plugin& optimizer);

// The blocks of `layout`, with `decay` false where the name holds one of the texts in `exclude`,
// upper and lower case alike; "1d" stands for every parameter with one axis. Neighbours that are
// alike are one run.
std::vector<Optimizer::Run> decay_runs(const Layout& layout, std::span<const std::string> exclude);

struct TrainOptions : config::Options {
  std::int64_t epochs = 1;
  std::int64_t steps = 0;  // > 0: this many steps instead of epochs
  std::int64_t batch_size = 16;
  std::int64_t accumulate = 1;  // batches a step
  config::Plugin optimizer;
  config::Plugin schedule;
  double clip = 0;  // longest gradient, Euclidean; 0: any
  std::vector<std::string> decay_exclude;
  double label_smoothing = 0;
  TrainOptions();
  void fields(config::Fields& fields) override;
};

// Shortens the gradient to at most this Euclidean norm; 0: any.
void clip(std::span<float> gradient, double longest);

struct TrainReport {
  std::int64_t steps = 0;
  std::int64_t examples = 0;  // in the client's training share (the weight of its update)
  std::int64_t tokens = 0;    // trained on; an example that is no text is one
  double loss = 0;            // mean over the steps
  double path = 0;            // sum of the steps' learning rates
};

// Edits the gradient before the optimiser sees it (FedProx: gradient += mu * (weights - start)).
using GradientHook = std::function<void(std::span<const float> weights, std::span<float> gradient)>;

// The batches of one epoch: a permutation by `rng`, cut into batches. Texts of a batch stand one
// behind the other, so different lengths cost nothing.
std::vector<std::vector<std::size_t>> epoch_batches(std::span<const std::size_t> indices,
                                                    std::size_t batch_size, Rng rng);

// Steps of one local training on so many examples.
std::int64_t steps_of(const TrainOptions& options, std::size_t examples);

std::unique_ptr<Optimizer> make_optimizer(const TrainOptions& options, const Layout& layout);

// Whether a step is w <- w - lr * (gradient as the hook leaves it), and nothing else.
bool is_plain_sgd(const TrainOptions& options);

// Where in the run a local training stands, for schedules that go over the run.
struct Place {
  std::int64_t round = 1, rounds = 1;
};

// Trains learner.weights() in place. `rng` names the order: stream ("epoch", e). The gradient of a
// step is that of the mean loss over its batches; then comes the hook, then clipping. Throws
// ConfigError if label smoothing is asked of a task without classes.
TrainReport train(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                  const TrainOptions& options, const GradientHook& hook, const Rng& rng,
                  Place place = {});
// The same with an optimizer that lives on: make_optimizer() of these options.
TrainReport train(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                  const TrainOptions& options, const GradientHook& hook, const Rng& rng,
                  Place place, Optimizer& optimizer);

}  // namespace fedctl::learn
