// DiLoCo: Douillard et al., "DiLoCo: distributed low-communication training of language models",
// 2023, arXiv 2311.08105; and Streaming DiLoCo: Douillard, Donchev et al., 2025, arXiv 2501.18512:
// fragments in turn, and training that goes on while the answer is under way.
//
//   round r  fragment p = (r - 1) mod P; train.steps inner steps, so a cycle has H = P train.steps
//   server -> client  "train"   {"round", "from"; f32 "weights.<f>" theta_f of every fragment f
//                     that was renewed since round `from`, of all of them at first}
//   client            theta_m,f <- alpha theta_m,f + (1 - alpha) theta_f, `overlap` steps behind
//                     its last answer; the rest of its steps
//   client -> server  "update"  {f32 "delta.<p>" = theta_p as it was last sent - theta_m,p;
//                     "examples", "loss", "steps"}
//   server            b_p <- momentum b_p + Delta;  theta_p <- theta_p - lr (Delta + momentum b_p)
//
// Payload of a cycle and client: d floats each way, before the codec, which has a memory for each
// fragment. The clients' weights and optimizers live on, and never travel.
//
// Unconfirmed: alpha 0.5. Deviation from the paper: parameters outside of the layers belong to the
// first and the last fragment, instead of one of their own.
#include "methods/detail/diloco.hpp"

#include "methods/detail/combined.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {

MethodEntry diloco();
MethodEntry streaming_diloco();

namespace {

struct DilocoOptions final : config::Options {
  OuterOptions outer;
  bool ablate = false;
  static std::unique_ptr<DilocoOptions> streaming() {
    auto options = std::make_unique<DilocoOptions>();
    options->outer.lr = 0.4;
    options->outer.alpha = 0.5;
    options->outer.fragments = 4;
    options->outer.overlap = 1;
    return options;
  }
  void fields(config::Fields& fields) override {
    outer.fields(fields);
    fields.boolean("ablate", ablate, "no overlap, nothing kept");
  }
};

class DilocoServer final : public RoundServer {
 public:
  DilocoServer(const DilocoOptions& options, const JobPlan& plan)
      : rota_(options.outer, plan), outer_(options.outer, plan) {}

  SharedMessage instruct(std::int64_t round, PeerId to, ServerContext& ctx) override {
    if (round != task_round_) tasks_.clear();
    task_round_ = round;
    const std::int64_t from = answered_[to];
    SharedMessage& task = tasks_[from];
    if (task) return task;
    task = wire::share(rota_.question(from, round, ctx.weights));
    return task;
  }

  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override {
    if (reply.kind == kBehind) {
      answered_[from] = 0;
      throw ProtocolError("it has lost its weights; it gets all of them next time");
    }
    const wire::Expect update(reply, "update");
    const std::size_t p = rota_.of_round(task_round_);
    update.f32(Rota::named("delta", p), {static_cast<std::int64_t>(rota_.fragment(p).size())});
    require_report(reply, from, ctx.plan);
  }

  Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) override {
    const std::size_t p = rota_.of_round(round);
    const Fragment& fragment = rota_.fragment(p);
    Merged merged;
    const auto take = [&](PeerId peer, const Message& reply) {
      const std::int64_t examples = add_report(merged, reply);
      answered_[peer] = round;
      return aggregate::Contribution{peer, static_cast<double>(examples),
                                     reply.tensors.at(Rota::named("delta", p)).f32()};
    };
    const std::vector<float> delta = combine_replies(replies, take, ctx, fragment.size());
    finish(merged);
    outer_.step(fragment, delta, ctx.weights);
    return merged;
  }

  Message save() const override {
    Message state = Message("state").with("answered", by_peer(answered_));
    outer_.save(state);
    return state;
  }
  void load(const Message& state) override {
    outer_.load(state);
    answered_ = by_peer_in(state, "answered");
  }

 private:
  Rota rota_;
  OuterStep outer_;
  std::map<PeerId, std::int64_t> answered_;  // the last round whose answer was used
  std::int64_t task_round_ = 0;
  std::map<std::int64_t, SharedMessage> tasks_;  // of this round, by `from`
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
                const auto& own = dynamic_cast<const DilocoOptions&>(options);
                OuterOptions outer = own.outer;
                if (own.ablate) outer.overlap = 0;
                if (own.ablate) outer.alpha = 0;
                return make_diloco_client(outer, plan, false);
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
