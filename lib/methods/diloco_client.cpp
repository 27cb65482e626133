#include <algorithm>

#include "methods/detail/diloco.hpp"
#include "methods/detail/local.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {
namespace {

class DilocoClient final : public RoundClient {
 public:
  bool rests() const override { return false; }
  DilocoClient(const OuterOptions& options, const JobPlan& plan, bool counts)
      : options_(options),
        rota_(options, plan),
        local_(plan),
        counts_(counts),
        seen_(rota_.count()) {}

  std::vector<float> global(const Message& task, ClientContext& ctx) override {
    return follow(task, ctx) ? outer_ : std::vector<float>();
  }

  Work work(const Message& task, ClientContext& ctx) override {
    if (!follow(task, ctx)) return {Message(kBehind)};
    std::int64_t steps = ctx.plan.train.steps;
    if (counts_) steps = wire::Expect(task, "train").integer("steps", 1, steps);
    const std::int64_t done = std::min(steps, overlap(ctx.plan, round_ - 1));
    const learn::TrainReport report = train("order", steps - done, ctx);
    const std::size_t p = rota_.of_round(round_);
    std::vector<float> delta = rota_.fragment(p).of(outer_);
    rota_.fragment(p).each([&](std::size_t i, std::size_t n) { delta[n] -= local_.weights()[i]; });
    ahead_ = false;
    Message answer = Message("update")
                         .with("examples", report.examples)
                         .with("loss", report.loss)
                         .with("steps", report.steps)
                         .with(Rota::named("delta", p), Tensor::of(delta, {}));
    if (counts_) {
      answer.scalars.emplace("round", round_);
      answer.scalars.emplace("tokens", seen_[p].tokens);
      answer.scalars.emplace("token_steps", seen_[p].steps);
    }
    return {std::move(answer), report.steps + std::exchange(made_up_, 0)};
  }

  std::int64_t ahead(ClientContext& ctx) override {
    if (ahead_ || round_ == ctx.plan.rounds || local_.weights().empty()) return 0;
    ahead_ = true;
    return train("ahead", overlap(ctx.plan, round_), ctx).steps;
  }

  Message save() const override {
    Message state("state");
    if (outer_.empty()) return state;
    state.scalars.emplace("round", round_);
    state.scalars.emplace("ahead", ahead_);
    state.tensors.emplace("outer", Tensor::of(outer_, {}));
    local_.save(state);
    if (!counts_) return state;
    std::vector<std::int64_t> rows;
    for (const Seen& one : seen_) rows.insert(rows.end(), {one.tokens, one.steps});
    state.tensors.emplace("seen", Tensor::of(rows, {static_cast<std::int64_t>(seen_.size()), 2}));
    return state;
  }
  void load(const Message& state) override {
    outer_ = floats_in(state, "outer", rota_.weights());
    if (outer_.empty()) return;
    round_ = wire::Expect(state, "state").integer("round", 1, kRoundsMax);
    const auto ahead = state.scalars.find("ahead");
    ahead_ = ahead != state.scalars.end() && ahead->second == wire::Scalar(true);
    local_.load(state);
    if (!counts_) return;
    const std::vector<std::int64_t> rows = integers_in(state, "seen", 2 * seen_.size());
    for (std::size_t p = 0; p < seen_.size(); ++p) seen_[p] = {rows[2 * p], rows[2 * p + 1]};
  }

 private:
  // Trained since a fragment was last received.
  struct Seen {
    std::int64_t tokens = 0, steps = 0;
  };

  learn::TrainReport train(const char* name, std::int64_t steps, ClientContext& ctx) {
    const learn::TrainReport report = local_.train(name, round_, steps, ctx);
    for (Seen& one : seen_) {
      one.tokens += report.tokens;
      one.steps += report.steps;
    }
    return report;
  }
  // Steps that are made behind the answer of a round, for the next one.
  std::int64_t overlap(const JobPlan& plan, std::int64_t round) const {
    return round == 0 ? 0 : std::min(options_.overlap, plan.train.steps);
  }

  // Takes in what the task brings, once. False if what it builds on is not here.
  bool follow(const Message& task, ClientContext& ctx) {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    const std::int64_t from = expect.integer("from", 0, round - 1);
    if (round == round_) return true;
    if (from > round_ || (outer_.empty() && from > 0)) return false;
    const bool first = outer_.empty();
    if (first) {
      outer_.resize(rota_.weights());
      local_.weights().resize(rota_.weights());
    } else {
      made_up_ = ahead(ctx);  // lost in a restart
    }
    for (const std::size_t f : rota_.renewed(from, round)) {
      const Fragment& fragment = rota_.fragment(f);
      const auto theta =
          expect.f32(Rota::named("weights", f), {static_cast<std::int64_t>(fragment.size())});
      const auto keep = static_cast<float>(first ? 0 : options_.alpha);
      fragment.each([&](std::size_t i, std::size_t n) {
        float& own = local_.weights()[i];
        own = keep * own + (1 - keep) * theta[n];
      });
      fragment.put(theta, outer_);
      seen_[f] = {};
    }
    round_ = round;
    return true;
  }

  OuterOptions options_;
  Rota rota_;
  LocalTraining local_;
  bool counts_;
  std::vector<Seen> seen_;    // by fragment
  std::vector<float> outer_;  // theta as it was last sent; empty at first
  std::int64_t round_ = 0;    // whose task it has taken in last
  bool ahead_ = false;        // the steps behind its answer have been made
  std::int64_t made_up_ = 0;  // of them in follow()
};

}  // namespace

std::unique_ptr<ClientMethod> make_diloco_client(const OuterOptions& options, const JobPlan& plan,
                                                 bool counts) {
  return std::make_unique<DilocoClient>(options, plan, counts);
}

}  // namespace fedctl::methods
