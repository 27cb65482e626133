// Meerkat and Meerkat-vp: Ran et al., "Mitigating non-IID drift in zeroth-order federated LLM
// fine-tuning with transferable sparsity", ICLR 2026, arXiv 2506.03337. DeComFL with one central
// direction a step (detail/decomfl.hpp) on the few weights whose squared gradient on public data is
// largest. No official code; what is unconfirmed is marked.
//
// Payload a round and client: 4 T up, 4 T for every round missed down (T = train.steps); at first
// contact the mask, in Rice's code: about H2(ratio) bits for every weight.
//
// vp: the server sees from GradIP_i(t) = g_i <g_pub, z_t> of the calibration phase which clients
// are so skewed that their slopes die out, and asks them for one step a round from then on.
//
// Deviation from the paper: a step that only some clients take is averaged over these. g_pub is
// taken once, at the first weights.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/registry.hpp"
#include "math/normals.hpp"
#include "math/vectors.hpp"
#include "methods/detail/decomfl.hpp"
#include "methods/detail/skew.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {

MethodEntry meerkat();

namespace {

struct MeerkatOptions final : config::Options {
  double ratio = 0.001, probe = 1e-3;
  std::string mask = "gradient", scalars = "float32";
  std::vector<config::Plugin> public_data;
  std::int64_t public_examples = 256;
  bool vp = false, ablate = false;
  SkewOptions skew;
  void fields(config::Fields& fields) override {
    fields.real("ratio", ratio, {.above = 0, .max = 1}, "share of the weights that move");
    fields.text("mask", mask, {.one_of = {"gradient", "magnitude", "random"}},
                "which: largest squared gradient on public data, largest at the start, or any");
    fields.plugins_of_server("public", public_data, data::dataset_kinds(), 4,
                             "data sets that the server alone reads, for the mask and vp");
    fields.integer("public_examples", public_examples, {1, 1'000'000}, "of each of them");
    fields.real("probe", probe, {.above = 0}, "distance of the two losses of a slope");
    ScalarCode::field(fields, scalars);
    fields.boolean("vp", vp, "one step a round for clients whose slopes die out");
    fields.boolean("ablate", ablate, "vp: find these clients, and ask them like the others");
    skew.fields(fields);
  }
};

DecomflOptions as_decomfl(const MeerkatOptions& own) {
  DecomflOptions options;
  options.probe = own.probe;
  options.form = "central";
  options.scalars = own.scalars;
  return options;
}

// The `count` largest, ascending; of equals the first.
std::vector<std::size_t> largest(std::span<const double> scores, std::size_t count) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto cut = order.begin() + static_cast<std::ptrdiff_t>(count);
  std::nth_element(order.begin(), cut - 1, order.end(), [&](std::size_t a, std::size_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  order.erase(cut, order.end());
  std::ranges::sort(order);
  return order;
}

struct Gradients {
  std::vector<double> mean, square;  // over batches
};

Gradients public_gradients(const MeerkatOptions& options, const JobPlan& plan, ServerContext& ctx) {
  Gradients found{std::vector<double>(plan.layout.size()), std::vector<double>(plan.layout.size())};
  learn::LearnerPool::Lease learner = ctx.learners.acquire();
  std::ranges::copy(plan.initial, learner->weights().begin());
  double batches = 0;
  for (std::size_t set = 0; set < options.public_data.size(); ++set) {
    const Rng rng = plan.common.stream("public", set);
    const data::Source source = data::open(options.public_data[set], rng.stream("data"));
    std::vector<std::size_t> examples = Rng(rng).permutation(source.train->size());
    examples.resize(std::min(examples.size(), static_cast<std::size_t>(options.public_examples)));
    const auto size = static_cast<std::size_t>(plan.train.batch_size);
    for (const std::vector<std::size_t>& batch : learn::batches_of(examples, size)) {
      learner->loss_and_gradient(source.train->gather(batch));
      ++batches;
      for (std::size_t i = 0; i < found.mean.size(); ++i) {
        const double slope = learner->gradient()[i];
        found.mean[i] += slope;
        found.square[i] += slope * slope;
      }
    }
  }
  for (double& value : found.mean) value /= batches;
  for (double& value : found.square) value /= batches;
  return found;
}

class MeerkatRule final : public DecomflRule {
 public:
  MeerkatRule(const MeerkatOptions& options, const JobPlan& job)
      : DecomflRule(as_decomfl(options), job), options_(options), skew_(options.skew) {}

  bool has_mask() const override { return true; }

  std::vector<std::size_t> choose_mask(ServerContext& ctx) override {
    const std::size_t size = plan.layout.size();
    const auto count =
        static_cast<std::size_t>(std::ceil(options_.ratio * static_cast<double>(size)));
    std::vector<double> scores;
    Gradients found;
    if (options_.mask == "gradient" || options_.vp) {
      found = public_gradients(options_, plan, ctx);
    }
    if (options_.mask == "gradient") {
      scores = found.square;
    } else if (options_.mask == "magnitude") {
      for (const float weight : plan.initial) scores.push_back(std::abs(weight));
    } else {
      Rng rng = plan.common.stream("mask");
      for (std::size_t i = 0; i < size; ++i) scores.push_back(rng.uniform_double());
    }
    std::vector<std::size_t> mask = largest(scores, count);
    if (options_.vp) {
      for (const std::size_t position : mask) {
        slope_.push_back(static_cast<float>(found.mean[position]));
      }
    }
    return mask;
  }

  std::int64_t steps_of(PeerId peer) const override {
    return skew_.skewed(peer) && !options_.ablate ? 1 : plan.train.steps;
  }

  void observe(const Replica& replica, const Answers& answers, ServerContext& ctx) override {
    if (!options_.vp) return;
    const std::int64_t round = replica.round + 1;
    std::vector<double> along;  // <g_pub, z_t> of the round's steps
    for (std::size_t step = 0; step < static_cast<std::size_t>(plan.train.steps); ++step) {
      std::vector<float> z(slope_.size());
      math::gather_normals(key(round, step, 0), directions.positions(), z);
      along.push_back(math::dot(z, slope_));
    }
    for (const auto& [peer, answer] : answers) {
      const std::vector<float> own =
          slopes_in(answer, static_cast<std::int64_t>(answer.size() / code.width()));
      std::vector<float> magnitudes;
      for (std::size_t step = 0; step < own.size(); ++step) {
        magnitudes.push_back(static_cast<float>(std::abs(own[step] * along[step])));
      }
      const std::optional<SkewVerdict> verdict = skew_.add(peer, magnitudes);
      if (!verdict || !verdict->skewed) continue;
      ctx.journal.write(round, journal::Event("skewed")
                                   .about(peer)
                                   .set("drop", verdict->drop)
                                   .set("quiet", verdict->quiet));
    }
  }

  void save(Message& state) const override {
    if (!options_.vp) return;
    state.tensors.emplace("slope", Tensor::of(slope_, {}));
    skew_.save(state);
  }
  void load(const Message& state) override {
    if (!options_.vp) return;
    slope_ = floats_in(state, "slope", directions.masked() ? directions.positions().size() : 0);
    skew_.load(state);
  }

 private:
  MeerkatOptions options_;
  std::vector<float> slope_;  // g_pub on the mask; vp
  SkewWatch skew_;
};

}  // namespace

MethodEntry meerkat() {
  return {.kind = {"meerkat", "decomfl on the few weights that public data says matter",
                   "Ran et al., ICLR 2026, arXiv 2506.03337",
                   [] { return std::make_unique<MeerkatOptions>(); }},
          .needs = "loss",
          .payload = "scalars",
          .rung = 2,
          .alike = false,
          .fixed_steps = true,
          .own_code = true,
          .check =
              [](const config::Options& options) {
                const auto& own = dynamic_cast<const MeerkatOptions&>(options);
                if (!own.public_data.empty() || (own.mask != "gradient" && !own.vp)) return;
                throw ConfigError(
                    std::string(own.vp ? "method.vp is true" : "method.mask is gradient") +
                        ", but method.public names no data",
                    "public: [{kind: ...}], data that the server may read; or mask: magnitude");
              },
          .make_server = replay_server<MeerkatRule, MeerkatOptions>,
          .make_client = replay_client<MeerkatRule, MeerkatOptions>};
}

}  // namespace fedctl::methods
