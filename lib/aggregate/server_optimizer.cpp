// The server rules of FedAvg (sgd), FedAvgM (momentum; Hsu, Qi, Brown, arXiv 1909.06335), with
// nesterov DiLoCo's outer step (Douillard et al., arXiv 2311.08105), and FedOpt (adagrad, adam,
// yogi; arXiv 2003.00295, algorithm 2). State and arithmetic are in double.

#include "aggregate/server_optimizer.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/assert.hpp"

namespace fedctl::aggregate {
namespace {

using Vector = std::vector<double>;

void add(float& weight, double by) { weight = static_cast<float>(weight + by); }

Tensor tensor_of(const Vector& values) {
  Tensor tensor = Tensor::zeros(DType::f64, {static_cast<std::int64_t>(values.size())});
  if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

// Throws WireError unless `state` has exactly these tensors.
void expect_names(const TensorMap& state, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (!state.contains(name)) throw WireError("server optimizer: no tensor \"" + name + "\"");
  }
  if (state.size() != names.size()) {
    throw WireError("server optimizer: " + std::to_string(state.size()) + " tensors, expected " +
                    std::to_string(names.size()));
  }
}

void expect_form(const std::string& name, const Tensor& tensor, DType dtype, const Shape& shape) {
  if (tensor.dtype != dtype || tensor.shape != shape ||
      tensor.bytes.size() != element_count(shape) * element_bytes(dtype)) {
    throw WireError("server optimizer: \"" + name + "\" is " + dtype_name(tensor.dtype) +
                    to_string(tensor.shape) + ", expected " + dtype_name(dtype) + to_string(shape));
  }
}

Vector vector_of(const TensorMap& state, const std::string& name, std::size_t size,
                 double least = -std::numeric_limits<double>::infinity()) {
  const Tensor& tensor = state.at(name);
  expect_form(name, tensor, DType::f64, {static_cast<std::int64_t>(size)});
  Vector values(size);
  if (size > 0) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  for (const double value : values) {
    if (!std::isfinite(value) || value < least) {
      throw WireError("server optimizer: \"" + name + "\" holds " + std::to_string(value));
    }
  }
  return values;
}

struct SgdOptions : config::Options {
  double lr = 1;
  void fields(config::Fields& fields) override {
    fields.real("lr", lr, {.above = 0}, "server learning rate; 1 takes the clients' mean itself");
  }
};

// x <- x + lr * delta
class Sgd final : public ServerOptimizer {
 public:
  Sgd(const SgdOptions& options, std::size_t) : lr_(options.lr) {}

  void step(std::span<float> weights, std::span<const float> delta) override {
    FEDCTL_ASSERT(weights.size() == delta.size());
    for (std::size_t i = 0; i < weights.size(); ++i) add(weights[i], lr_ * delta[i]);
  }
  TensorMap state() const override { return {}; }
  void restore(const TensorMap& state) override { expect_names(state, {}); }

 private:
  double lr_;
};

struct MomentumOptions : SgdOptions {
  double beta = 0.9;
  bool nesterov = false;
  void fields(config::Fields& fields) override {
    SgdOptions::fields(fields);
    fields.real("beta", beta, {.min = 0, .below = 1}, "share of the last step that is kept");
    fields.boolean("nesterov", nesterov, "step from where the momentum leads");
  }
};

// v <- beta * v - delta;  x <- x - lr * v, with nesterov x <- x - lr * (beta * v - delta)
class Momentum final : public ServerOptimizer {
 public:
  Momentum(const MomentumOptions& options, std::size_t size)
      : lr_(options.lr), beta_(options.beta), nesterov_(options.nesterov), v_(size) {}

  void step(std::span<float> weights, std::span<const float> delta) override {
    FEDCTL_ASSERT(weights.size() == v_.size() && delta.size() == v_.size());
    for (std::size_t i = 0; i < v_.size(); ++i) {
      v_[i] = beta_ * v_[i] - delta[i];
      add(weights[i], -lr_ * (nesterov_ ? beta_ * v_[i] - delta[i] : v_[i]));
    }
  }
  TensorMap state() const override { return {{"v", tensor_of(v_)}}; }
  void restore(const TensorMap& state) override {
    expect_names(state, {"v"});
    v_ = vector_of(state, "v", v_.size());
  }

 private:
  double lr_;
  double beta_;
  bool nesterov_;
  Vector v_;
};

// Options of the three adaptive rules; each shows its own.
struct AdaptiveOptions : SgdOptions {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double tau = 1e-3;
  double v_initial = 0;
  bool bias_correction = false;
  bool ablate = false;

  void adaptivity(config::Fields& fields) {
    fields.real("tau", tau, {.above = 0}, "added to sqrt(v): small adapts more");
    fields.real("v_initial", v_initial, {.min = 0}, "v before round 1; the paper: at least tau^2");
    fields.boolean("ablate", ablate, "leave v as it is before round 1");
  }
  void betas(config::Fields& fields) {
    fields.real("beta1", beta1, {.min = 0, .below = 1}, "decay of the mean of the differences");
    fields.real("beta2", beta2, {.min = 0, .below = 1}, "decay of the mean of their squares");
  }
};

struct AdagradOptions : AdaptiveOptions {
  AdagradOptions() { lr = 0.1, beta1 = 0; }
  void fields(config::Fields& fields) override {
    SgdOptions::fields(fields);
    adaptivity(fields);
  }
};

struct AdamOptions : AdaptiveOptions {
  AdamOptions() { lr = 0.1; }
  void fields(config::Fields& fields) override {
    SgdOptions::fields(fields);
    betas(fields);
    adaptivity(fields);
    fields.boolean("bias_correction", bias_correction,
                   "lr times sqrt(1 - beta2^(round+1)) / (1 - beta1^(round+1)), as Flower has it");
  }
};

struct YogiOptions : AdaptiveOptions {
  YogiOptions() { lr = 0.01; }
  void fields(config::Fields& fields) override {
    SgdOptions::fields(fields);
    betas(fields);
    adaptivity(fields);
  }
};

// The second moment after one more difference; `square` is its square.
double adagrad_v(double v, double square, double) { return v + square; }
double adam_v(double v, double square, double beta2) { return beta2 * v + (1 - beta2) * square; }
double yogi_v(double v, double square, double beta2) {
  const double sign = v > square ? 1 : v < square ? -1 : 0;
  return v - (1 - beta2) * square * sign;
}

// m <- beta1 * m + (1 - beta1) * delta;  v <- next_v(v, delta^2)
// x <- x + lr * m / (sqrt(v) + tau)
template <double (*next_v)(double, double, double)>
class Adaptive final : public ServerOptimizer {
 public:
  Adaptive(const AdaptiveOptions& options, std::size_t size)
      : options_{options.lr,  options.beta1,           options.beta2,
                 options.tau, options.bias_correction, options.ablate},
        m_(size),
        v_(size, options.v_initial) {}

  void step(std::span<float> weights, std::span<const float> delta) override {
    FEDCTL_ASSERT(weights.size() == m_.size() && delta.size() == m_.size());
    ++round_;
    double lr = options_.lr;
    if (options_.bias_correction) {
      // Flower counts rounds from 1 and takes the next one here; Kingma and Ba take this one.
      const auto power = static_cast<double>(round_ + 1);
      lr *= std::sqrt(1 - std::pow(options_.beta2, power)) / (1 - std::pow(options_.beta1, power));
    }
    for (std::size_t i = 0; i < m_.size(); ++i) {
      const double difference = delta[i];
      m_[i] = options_.beta1 * m_[i] + (1 - options_.beta1) * difference;
      if (!options_.ablate) v_[i] = next_v(v_[i], difference * difference, options_.beta2);
      add(weights[i], lr * m_[i] / (std::sqrt(v_[i]) + options_.tau));
    }
  }

  TensorMap state() const override {
    const std::int64_t round[] = {round_};
    return {{"m", tensor_of(m_)}, {"v", tensor_of(v_)}, {"round", Tensor::of(round, {1})}};
  }

  void restore(const TensorMap& state) override {
    expect_names(state, {"m", "v", "round"});
    expect_form("round", state.at("round"), DType::i64, {1});
    const std::int64_t round = state.at("round").i64()[0];
    if (round < 0) throw WireError("server optimizer: round " + std::to_string(round));
    Vector m = vector_of(state, "m", m_.size());
    v_ = vector_of(state, "v", v_.size(), 0);
    m_ = std::move(m);
    round_ = round;
  }

 private:
  struct Numbers {
    double lr, beta1, beta2, tau;
    bool bias_correction, ablate;
  };
  Numbers options_;
  std::int64_t round_ = 0;  // steps done
  Vector m_;
  Vector v_;
};

template <class Options, class Optimizer>
ServerOptimizerEntry entry(const char* name, const char* summary, const char* paper) {
  return {.kind = {.name = name,
                   .summary = summary,
                   .paper = paper,
                   .make_options = [] { return std::make_unique<Options>(); }},
          .make = [](const config::Options& options, std::size_t size) {
            return std::make_unique<Optimizer>(dynamic_cast<const Options&>(options), size);
          }};
}

constexpr const char* kFedOpt = "Reddi et al., ICLR 2021 (arXiv 2003.00295)";

}  // namespace

const std::vector<ServerOptimizerEntry>& server_optimizers() {
  static const std::vector<ServerOptimizerEntry> entries = {
      entry<AdagradOptions, Adaptive<adagrad_v>>("adagrad", "FedAdagrad", kFedOpt),
      entry<AdamOptions, Adaptive<adam_v>>("adam", "FedAdam", kFedOpt),
      entry<MomentumOptions, Momentum>("momentum", "FedAvgM: heavy-ball momentum",
                                       "Hsu, Qi, Brown, 2019 (arXiv 1909.06335)"),
      entry<SgdOptions, Sgd>("sgd", "FedAvg: a step along the mean difference",
                             "McMahan et al., AISTATS 2017 (arXiv 1602.05629)"),
      entry<YogiOptions, Adaptive<yogi_v>>("yogi", "FedYogi", kFedOpt)};
  return entries;
}

const config::Kinds& server_optimizer_kinds() {
  static const config::Kinds kinds = [] {
    config::Kinds all;
    for (const ServerOptimizerEntry& each : server_optimizers()) all.push_back(each.kind);
    return all;
  }();
  return kinds;
}

}  // namespace fedctl::aggregate
