#include <algorithm>
#include <limits>

#include "methods/detail/fedkseed.hpp"

namespace fedctl::methods {
namespace {

class FedkseedClient final : public RoundClient {
 public:
  FedkseedClient(const FedkseedOptions& options, const JobPlan& plan)
      : space_(options, plan), sums_(space_.count()) {}

  std::vector<float> global(const Message& task, ClientContext&) override {
    std::vector<float> weights;
    if (!follow(task)) return weights;
    weights.resize(space_.directions.size());
    space_.rebuild(sums_, weights);
    return weights;
  }

  Work work(const Message& task, ClientContext& ctx) override {
    if (!follow(task)) return {Message(kBehind)};
    const std::vector<double> up_to = chances_in(task);
    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    space_.rebuild(sums_, learner->weights());
    Batches batches(ctx.data, ctx.train, static_cast<std::size_t>(ctx.plan.train.batch_size),
                    ctx.rng.stream("order", round_));
    Rng draws = ctx.rng.stream("directions", round_);
    Probe probe(*learner, space_.directions, space_.options.probe);
    const std::int64_t steps = learn::steps_of(ctx.plan.train, ctx.train.size());
    Slopes slopes;
    double loss = 0;
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::size_t j = draw(up_to, draws);
      const Probe::Slope found = probe.central(space_.key(j), batches.next());
      if (!found.finite) continue;
      // The step is made with the number that is sent.
      const float sent = static_cast<float>(found.slope);
      const float slope = space_.code.decode(space_.code.encode({&sent, 1}, Rng(0)), 1)[0];
      space_.directions.add(space_.key(j), -space_.lr * slope, learner->weights());
      slopes.seeds.push_back(j);
      slopes.values.push_back(slope);
      loss += found.loss;
    }
    Message answer = Message("update")
                         .with("examples", static_cast<std::int64_t>(ctx.train.size()))
                         .with("loss", loss / std::max(1.0, double(slopes.seeds.size())))
                         .with("steps", steps);
    if (space_.options.upload == "sums") {
      std::vector<float> sums(space_.count());
      for (std::size_t i = 0; i < slopes.seeds.size(); ++i) {
        sums[slopes.seeds[i]] += slopes.values[i];
      }
      answer.tensors.emplace("sums", tensor_of(space_.code.encode(sums, Rng(0))));
    } else {
      answer.tensors.emplace("seeds", tensor_of(words_of(slopes.seeds)));
      answer.tensors.emplace("slopes", tensor_of(space_.code.encode(slopes.values, Rng(0))));
    }
    return {std::move(answer), steps};
  }

  Message save() const override {
    return Message("state").with("round", round_).with("sums", Tensor::of(sums_, {}));
  }
  void load(const Message& state) override {
    const wire::Expect fields(state, "state");
    round_ = fields.integer("round", 0, kRoundsMax);
    const auto sums = fields.f32("sums", {space_.options.candidates});
    sums_.assign(sums.begin(), sums.end());
  }

 private:
  // Brings the sums to the task's. False if those that it builds on are not here.
  bool follow(const Message& task) {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    const ByteView sums = bytes_in(task, "sums");
    if (task.scalars.contains("known")) {
      // What this client has is of the end of the round before round_.
      if (expect.integer("known", 0, round - 1) > std::max<std::int64_t>(0, round_ - 1)) {
        return false;
      }
      const auto seeds = words_in(bytes_in(task, "seeds"), space_.count());
      const auto values = space_.code.decode(sums, seeds.size());
      for (std::size_t i = 0; i < seeds.size(); ++i) sums_[seeds[i]] = values[i];
    } else {
      sums_ = space_.code.decode(sums, space_.count());
    }
    round_ = round;
    return true;
  }

  // Running sums of the chances; empty: all alike.
  std::vector<double> chances_in(const Message& task) const {
    std::vector<double> up_to;
    if (!space_.options.pro) return up_to;
    double total = 0;
    for (const float chance : space_.code.decode(bytes_in(task, "chances"), space_.count())) {
      if (chance < 0) throw ProtocolError("\"train\": a chance is negative");
      up_to.push_back(total += chance);
    }
    if (!(total > 0)) throw ProtocolError("\"train\": all chances are 0");
    return up_to;
  }

  std::size_t draw(std::span<const double> up_to, Rng& draws) const {
    if (up_to.empty()) return static_cast<std::size_t>(draws.below(space_.count()));
    const auto found = std::ranges::upper_bound(up_to, draws.uniform(0, up_to.back()));
    return std::min(static_cast<std::size_t>(found - up_to.begin()), up_to.size() - 1);
  }

  Space space_;
  std::int64_t round_ = 0;   // the last one that it was asked in
  std::vector<float> sums_;  // a, as of then
};

}  // namespace

std::unique_ptr<ClientMethod> make_fedkseed_client(const FedkseedOptions& options,
                                                   const JobPlan& plan) {
  return std::make_unique<FedkseedClient>(options, plan);
}

}  // namespace fedctl::methods
