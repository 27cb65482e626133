// DiLoCo: Douillard et al., "DiLoCo: distributed low-communication training of language models",
// 2023, arXiv 2311.08105; and Streaming DiLoCo: Douillard, Donchev et al., 2025, arXiv 2501.18512:
// fragments in turn, and training that goes on while the answer is under way.
//
//   round r  fragment p = (r - 1) mod P; train.steps inner steps, so a cycle has H = P train.steps
//   server -> client  "train"   {"round", "from"; f32 "weights.<f>" theta_f of every fragment f
//   that
//                     was renewed since round `from`, of all of them at first}
//   client            theta_m,f <- alpha theta_m,f + (1 - alpha) theta_f, `overlap` steps behind
//   its
//                     last answer; the rest of its steps
//   client -> server  "update"  {f32 "delta.<p>" = theta_p as it was last sent - theta_m,p;
//                     "examples", "loss", "steps"}
//   server            b_p <- momentum b_p + Delta;  theta_p <- theta_p - lr (Delta + momentum b_p)
//
// Payload of a cycle and client: d floats each way, before the codec, which has a memory for each
// fragment. The clients' weights and optimizers live on, and never travel.
//
// Unconfirmed: alpha 0.5. Deviation from the paper: parameters outside of the layers belong to the
// first and the last fragment, instead of one of their own.
#include <algorithm>
#include <set>

#include "methods/detail/fragments.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/local.hpp"
#include "methods/detail/states.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

MethodEntry diloco();
MethodEntry streaming_diloco();

namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

struct DilocoOptions final : config::Options {
  double lr = 0.7, momentum = 0.9, alpha = 0;
  std::int64_t fragments = 1, overlap = 0;
  std::string pattern = "strided";
  bool ablate = false;
  static std::unique_ptr<DilocoOptions> streaming() {
    auto options = std::make_unique<DilocoOptions>();
    options->lr = 0.4;
    options->alpha = 0.5;
    options->fragments = 4;
    options->overlap = 1;
    return options;
  }
  void fields(config::Fields& fields) override {
    fields.real("lr", lr, {.above = 0}, "outer learning rate");
    fields.real("momentum", momentum, {.min = 0, .below = 1}, "outer momentum, Nesterov's");
    fields.integer("fragments", fragments, {1, 4096}, "groups of layers, sent one a round");
    fields.text("pattern", pattern, {.one_of = {"strided", "sequential"}},
                "which layers are a fragment");
    fields.integer("overlap", overlap, {0, 1'000'000},
                   "steps that a client trains on before it takes in the answer");
    fields.real("alpha", alpha, {.min = 0, .max = 1},
                "share of its own weights that it then keeps");
    fields.boolean("ablate", ablate, "no overlap, nothing kept");
  }
};

std::string named(const char* what, std::size_t fragment) {
  return std::string(what) + '.' + std::to_string(fragment);
}

// What both sides know.
struct Rota {
  Rota(const DilocoOptions& options, const JobPlan& plan)
      : fragments(fragments_of(plan.layout, static_cast<std::size_t>(options.fragments),
                               options.pattern == "strided")) {}
  std::size_t of_round(std::int64_t round) const {
    return static_cast<std::size_t>(round - 1) % fragments.size();
  }
  // Renewed by rounds from .. round - 1; all of them if from is 0.
  std::set<std::size_t> renewed(std::int64_t from, std::int64_t round) const {
    std::set<std::size_t> found;
    const auto all = static_cast<std::int64_t>(fragments.size());
    for (std::int64_t r = std::max<std::int64_t>(from, round - all); r < round && from > 0; ++r) {
      if (r > 0) found.insert(of_round(r));
    }
    for (std::size_t f = 0; f < fragments.size() && from == 0; ++f) found.insert(f);
    return found;
  }
  std::vector<Fragment> fragments;
};

class DilocoServer final : public RoundServer {
 public:
  DilocoServer(const DilocoOptions& options, const JobPlan& plan)
      : options_(options), rota_(options, plan), momentum_(plan.layout.size()) {}

  SharedMessage instruct(std::int64_t round, PeerId to, ServerContext& ctx) override {
    if (round != task_round_) tasks_.clear();
    task_round_ = round;
    const std::int64_t from = answered_[to];
    SharedMessage& task = tasks_[from];
    if (task) return task;
    Message made = Message("train").with("round", round).with("from", from);
    for (const std::size_t f : rota_.renewed(from, round)) {
      made.tensors.emplace(named("weights", f), Tensor::of(rota_.fragments[f].of(ctx.weights), {}));
    }
    task = wire::share(std::move(made));
    return task;
  }

  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override {
    if (reply.kind == kBehind) {
      answered_[from] = 0;
      throw ProtocolError("it has lost its weights; it gets all of them next time");
    }
    const wire::Expect update(reply, "update");
    const std::size_t p = rota_.of_round(task_round_);
    update.f32(named("delta", p), {static_cast<std::int64_t>(rota_.fragments[p].size())});
    require_report(reply, ctx.plan);
  }

  Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) override {
    const std::size_t p = rota_.of_round(round);
    const Fragment& fragment = rota_.fragments[p];
    std::vector<aggregate::Contribution> contributions;
    Merged merged;
    for (const auto& [peer, reply] : replies) {
      const std::int64_t examples = add_report(merged, reply);
      contributions.push_back(
          {peer, static_cast<double>(examples), reply.tensors.at(named("delta", p)).f32()});
      answered_[peer] = round;
    }
    finish(merged);
    std::vector<float> delta(fragment.size());
    ctx.aggregator.combine(contributions, delta);
    const auto lr = static_cast<float>(options_.lr), mu = static_cast<float>(options_.momentum);
    fragment.each([&](std::size_t i, std::size_t n) {
      momentum_[i] = mu * momentum_[i] + delta[n];
      ctx.weights[i] -= lr * (delta[n] + mu * momentum_[i]);
    });
    return merged;
  }

  Message save() const override {
    return Message("state")
        .with("momentum", Tensor::of(momentum_, {}))
        .with("answered", by_peer(answered_));
  }
  void load(const Message& state) override {
    momentum_ = floats_in(state, "momentum", momentum_.size());
    answered_ = by_peer_in(state, "answered");
  }

 private:
  DilocoOptions options_;
  Rota rota_;
  std::vector<float> momentum_;              // b
  std::map<PeerId, std::int64_t> answered_;  // the last round whose answer was used
  std::int64_t task_round_ = 0;
  std::map<std::int64_t, SharedMessage> tasks_;  // of this round, by `from`
};

class DilocoClient final : public RoundClient {
 public:
  DilocoClient(const DilocoOptions& options, const JobPlan& plan)
      : options_(options), rota_(options, plan), local_(plan) {
    if (options_.ablate) options_.overlap = 0;
    if (options_.ablate) options_.alpha = 0;
  }

  std::vector<float> global(const Message& task, ClientContext& ctx) override {
    return follow(task, ctx) ? outer_ : std::vector<float>();
  }

  Work work(const Message& task, ClientContext& ctx) override {
    if (!follow(task, ctx)) return {Message(kBehind)};
    const std::int64_t done = overlap(ctx.plan, round_ - 1);
    const learn::TrainReport report =
        local_.train("order", round_, ctx.plan.train.steps - done, ctx);
    const std::size_t p = rota_.of_round(round_);
    std::vector<float> delta = rota_.fragments[p].of(outer_);
    rota_.fragments[p].each([&](std::size_t i, std::size_t n) { delta[n] -= local_.weights()[i]; });
    ahead_ = false;
    return {Message("update")
                .with("examples", report.examples)
                .with("loss", report.loss)
                .with("steps", report.steps)
                .with(named("delta", p), Tensor::of(delta, {})),
            report.steps + std::exchange(made_up_, 0)};
  }

  std::int64_t ahead(ClientContext& ctx) override {
    if (ahead_ || round_ == ctx.plan.rounds || local_.weights().empty()) return 0;
    ahead_ = true;
    return local_.train("ahead", round_, overlap(ctx.plan, round_), ctx).steps;
  }

  Message save() const override {
    Message state("state");
    if (outer_.empty()) return state;
    state.scalars.emplace("round", round_);
    state.scalars.emplace("ahead", ahead_);
    state.tensors.emplace("outer", Tensor::of(outer_, {}));
    local_.save(state);
    return state;
  }
  void load(const Message& state) override {
    outer_ = floats_in(state, "outer", rota_size());
    if (outer_.empty()) return;
    round_ = wire::Expect(state, "state").integer("round", 1, kCountMax);
    const auto ahead = state.scalars.find("ahead");
    ahead_ = ahead != state.scalars.end() && ahead->second == wire::Scalar(true);
    local_.load(state);
  }

 private:
  std::size_t rota_size() const {
    std::size_t size = 0;
    for (const Fragment& fragment : rota_.fragments) size += fragment.size();
    return size;
  }
  // Steps that are made behind the answer of a round, for the next one.
  std::int64_t overlap(const JobPlan& plan, std::int64_t round) const {
    return round == 0 ? 0 : std::min(options_.overlap, plan.train.steps);
  }

  // Takes in what the task brings, once. False if what it builds on is not here.
  bool follow(const Message& task, ClientContext& ctx) {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kCountMax);
    const std::int64_t from = expect.integer("from", 0, round - 1);
    if (round == round_) return true;
    if (from > round_ || (outer_.empty() && from > 0)) return false;
    const bool first = outer_.empty();
    if (first) {
      outer_.resize(rota_size());
      local_.weights().resize(rota_size());
    } else {
      made_up_ = ahead(ctx);  // lost in a restart
    }
    for (const std::size_t f : rota_.renewed(from, round)) {
      const Fragment& fragment = rota_.fragments[f];
      const auto theta =
          expect.f32(named("weights", f), {static_cast<std::int64_t>(fragment.size())});
      const auto keep = static_cast<float>(first ? 0 : options_.alpha);
      fragment.each([&](std::size_t i, std::size_t n) {
        float& own = local_.weights()[i];
        own = keep * own + (1 - keep) * theta[n];
      });
      fragment.put(theta, outer_);
    }
    round_ = round;
    return true;
  }

  DilocoOptions options_;
  Rota rota_;
  LocalTraining local_;
  std::vector<float> outer_;  // theta as it was last sent; empty at first
  std::int64_t round_ = 0;    // whose task it has taken in last
  bool ahead_ = false;        // the steps behind its answer have been made
  std::int64_t made_up_ = 0;  // of them in follow()
};

MethodEntry entry(config::Kind kind) {
  return {.kind = std::move(kind),
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .alike = false,
          .whole_cohort = true,
          .fixed_steps = true,
          .make_server =
              [](const config::Options& options, const JobPlan& plan) {
                return std::make_unique<DilocoServer>(dynamic_cast<const DilocoOptions&>(options),
                                                      plan);
              },
          .make_client =
              [](const config::Options& options, const JobPlan& plan) {
                return std::make_unique<DilocoClient>(dynamic_cast<const DilocoOptions&>(options),
                                                      plan);
              }};
}

}  // namespace

MethodEntry diloco() {
  return entry({"diloco", "long local training that lives on, outer steps with momentum",
                "Douillard et al., 2023, arXiv 2311.08105",
                [] { return std::make_unique<DilocoOptions>(); }});
}

MethodEntry streaming_diloco() {
  return entry({"streaming_diloco", "diloco in fragments, training on while answers are under way",
                "Douillard, Donchev et al., 2025, arXiv 2501.18512", DilocoOptions::streaming});
}

}  // namespace fedctl::methods
