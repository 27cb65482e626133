// FedKSeed and FedKSeed-Pro: Qin et al., "Federated full-parameter tuning of billion-sized language
// models with communication cost under 18 kilobytes", ICML 2024, arXiv 2312.06353. K random
// directions z_j are agreed once; the model is w0 - lr sum_j a_j z_j, and only numbers travel.
//
//   server -> client  "train"   {"round", "known"; u8 "sums" a [K], or the changed ones: words
//                     "seeds" [c], u8 "sums" [c], whichever is shorter; pro: u8 "chances" [K]}
//   client            rebuild w; `steps` times: draw j, g = two-point slope along z_j (a batch
//                     each), w <- w - lr g z_j
//   client -> server  "update"  {words "seeds" [steps], u8 "slopes" [steps], or the K sums of the
//                     slopes: u8 "sums" [K]; "examples", "loss", "steps"}
//   server            a_j += the aggregate over clients of sum of g by j
//
// Payload a round and client with float32 numbers: at most 4 K down (8 K with pro), 6 steps up.
// `known`: the round whose sums the client is taken to have; 0: none are needed. A client that has
// lost them says so ("behind"), and gets all next time.
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "math/vectors.hpp"
#include "methods/detail/scalars.hpp"
#include "methods/detail/seeds.hpp"
#include "methods/detail/states.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

MethodEntry fedkseed();

namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

struct FedkseedOptions final : config::Options {
  std::int64_t candidates = 4096;
  double probe = 5e-4;
  std::string upload = "slopes", scalars = "float32";
  bool pro = false, ablate = false;
  double pro_clip = 1000;
  void fields(config::Fields& fields) override {
    fields.integer("candidates", candidates, {1, 65536}, "directions K");
    fields.real("probe", probe, {.above = 0}, "distance of the two losses; 1e-2 for LoRA");
    fields.text("upload", upload, {.one_of = {"slopes", "sums"}},
                "what a client sends: every slope with its direction, or a sum for each direction");
    fields.text("scalars", scalars, {.one_of = {"float32", "float16"}}, "how numbers are sent");
    fields.boolean("pro", pro, "draw directions with large slopes more often (FedKSeed-Pro)");
    fields.real("pro_clip", pro_clip, {.above = 0}, "largest magnitude that pro counts");
    fields.boolean("ablate", ablate, "pro: leave all chances alike");
  }
};

// What both sides know of the run.
struct Space {
  Space(const FedkseedOptions& options_, const JobPlan& plan_)
      : options(options_),
        plan(plan_),
        code(options_.scalars),
        directions(plan_.layout.size()),
        lr(learn::learning_rate(plan_.train.optimizer)) {}

  std::size_t count() const { return static_cast<std::size_t>(options.candidates); }
  std::uint64_t key(std::size_t j) const { return plan.common.stream("direction", j).key(); }
  // w0 - lr sum_j a_j z_j.
  void rebuild(std::span<const float> sums, std::span<float> weights) const {
    std::ranges::copy(plan.initial, weights.begin());
    for (std::size_t j = 0; j < sums.size(); ++j) {
      if (sums[j] != 0) directions.add(key(j), -lr * sums[j], weights);
    }
  }

  FedkseedOptions options;
  const JobPlan& plan;
  ScalarCode code;
  Directions directions;
  double lr;
};

// Directions and slopes of an update; sums have none.
struct Slopes {
  std::vector<std::size_t> seeds;
  std::vector<float> values;
};
Slopes slopes_in(const Message& update, const Space& space) {
  Slopes slopes;
  slopes.seeds = words_in(bytes_in(update, "seeds"), space.count());
  slopes.values = space.code.decode(bytes_in(update, "slopes"), slopes.seeds.size());
  return slopes;
}
// Sum of slopes by direction, [K].
std::vector<float> sums_in(const Message& update, const Space& space) {
  if (space.options.upload == "sums") {
    return space.code.decode(bytes_in(update, "sums"), space.count());
  }
  std::vector<float> sums(space.count());
  const Slopes slopes = slopes_in(update, space);
  for (std::size_t i = 0; i < slopes.seeds.size(); ++i) sums[slopes.seeds[i]] += slopes.values[i];
  return sums;
}

class FedkseedServer final : public RoundServer {
 public:
  FedkseedServer(const FedkseedOptions& options, const JobPlan& plan)
      : space_(options, plan),
        sums_(space_.count()),
        changed_(space_.count()),
        magnitudes_(space_.count()),
        counts_(space_.count()) {}

  SharedMessage instruct(std::int64_t round, PeerId to, ServerContext&) override {
    if (round != task_round_) tasks_.clear();
    task_round_ = round;
    const std::int64_t known = known_[to];
    SharedMessage& task = tasks_[known];
    if (!task) task = wire::share(make_task(round, known));
    return task;
  }

  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override {
    if (reply.kind == kBehind) {
      known_[from] = 0;
      throw ProtocolError("it has lost the sums; it gets all of them next time");
    }
    const wire::Expect update(reply, "update");
    update.integer("examples", 1, ctx.plan.examples_max);
    update.integer("steps", 0, kCountMax);
    update.real("loss");
    if (const double norm = math::norm(sums_in(reply, space_)); !(norm <= ctx.plan.norm_max)) {
      throw ProtocolError("norm of the sums " + std::to_string(norm) +
                          ", server.max_update_norm is " + std::to_string(ctx.plan.norm_max));
    }
  }

  Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) override {
    std::vector<std::vector<float>> sums;
    std::vector<aggregate::Contribution> contributions;
    Merged merged;
    for (const auto& [peer, reply] : replies) {
      const wire::Expect update(reply, "update");
      const std::int64_t examples = update.integer("examples", 1, kCountMax);
      sums.push_back(sums_in(reply, space_));
      contributions.push_back({peer, static_cast<double>(examples), sums.back()});
      merged.examples += examples;
      merged.train_loss += static_cast<double>(examples) * update.real("loss");
      known_[peer] = round - 1;
      if (space_.options.pro) remember_magnitudes(slopes_in(reply, space_));
    }
    merged.train_loss /= static_cast<double>(merged.examples);
    std::vector<float> mean(space_.count());
    ctx.aggregator.combine(contributions, mean);
    for (std::size_t j = 0; j < mean.size(); ++j) {
      if (mean[j] == 0) continue;
      sums_[j] += mean[j];
      changed_[j] = round;
    }
    space_.rebuild(space_.code.decode(coded_sums(), space_.count()), ctx.weights);
    return merged;
  }

  Message save() const override {
    std::vector<std::int64_t> sums, magnitudes;
    for (const double sum : sums_) sums.push_back(std::bit_cast<std::int64_t>(sum));
    for (const double sum : magnitudes_) magnitudes.push_back(std::bit_cast<std::int64_t>(sum));
    return Message("state")
        .with("sums", Tensor::of(sums, {}))
        .with("changed", Tensor::of(changed_, {}))
        .with("magnitudes", Tensor::of(magnitudes, {}))
        .with("counts", Tensor::of(counts_, {}))
        .with("known", by_peer(known_));
  }
  void load(const Message& state) override {
    const auto sums = integers_in(state, "sums", space_.count());
    const auto magnitudes = integers_in(state, "magnitudes", space_.count());
    for (std::size_t j = 0; j < space_.count(); ++j) {
      sums_[j] = std::bit_cast<double>(sums[j]);
      magnitudes_[j] = std::bit_cast<double>(magnitudes[j]);
    }
    changed_ = integers_in(state, "changed", space_.count());
    counts_ = integers_in(state, "counts", space_.count());
    known_ = by_peer_in(state, "known");
  }

 private:
  // As clients read them; the code draws nothing.
  Bytes coded_sums() const {
    return space_.code.encode(std::vector<float>(sums_.begin(), sums_.end()), Rng(0));
  }

  Message make_task(std::int64_t round, std::int64_t known) const {
    std::vector<std::size_t> seeds;
    std::vector<float> values;
    for (std::size_t j = 0; j < sums_.size(); ++j) {
      if (changed_[j] <= known) continue;
      seeds.push_back(j);
      values.push_back(static_cast<float>(sums_[j]));
    }
    Message task = Message("train").with("round", round);
    if ((space_.code.width() + 2) * seeds.size() < space_.code.width() * sums_.size()) {
      task.scalars.emplace("known", known);
      task.tensors.emplace("seeds", tensor_of(words_of(seeds)));
      task.tensors.emplace("sums", tensor_of(space_.code.encode(values, Rng(0))));
    } else {
      task.tensors.emplace("sums", tensor_of(coded_sums()));
    }
    if (space_.options.pro) {
      task.tensors.emplace("chances", tensor_of(space_.code.encode(chances(), Rng(0))));
    }
    return task;
  }

  void remember_magnitudes(const Slopes& slopes) {
    for (std::size_t i = 0; i < slopes.seeds.size(); ++i) {
      magnitudes_[slopes.seeds[i]] +=
          std::min(std::abs(double{slopes.values[i]}), space_.options.pro_clip);
      ++counts_[slopes.seeds[i]];
    }
  }

  // softmax of the mean magnitudes, brought to [0, 1]; each mean has one 0 more in it.
  std::vector<float> chances() const {
    std::vector<double> means(space_.count());
    if (!space_.options.ablate) {
      for (std::size_t j = 0; j < means.size(); ++j) {
        means[j] = magnitudes_[j] / static_cast<double>(counts_[j] + 1);
      }
    }
    const auto [least, most] = std::ranges::minmax(means);
    double total = 0;
    for (double& mean : means) {
      mean = std::exp((mean - least) / (most - least + 1e-10));
      total += mean;
    }
    std::vector<float> chances;
    for (const double share : means) chances.push_back(static_cast<float>(share / total));
    return chances;
  }

  Space space_;
  std::vector<double> sums_;              // a
  std::vector<std::int64_t> changed_;     // the round in which a_j changed last
  std::vector<double> magnitudes_;        // pro: sum of |g| by direction
  std::vector<std::int64_t> counts_;      // and how many
  std::map<PeerId, std::int64_t> known_;  // the round whose sums a client has
  std::int64_t task_round_ = 0;
  std::map<std::int64_t, SharedMessage> tasks_;  // of this round, by what is known
};

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
    round_ = fields.integer("round", 0, kCountMax);
    const auto sums = fields.f32("sums", {space_.options.candidates});
    sums_.assign(sums.begin(), sums.end());
  }

 private:
  // Brings the sums to the task's. False if those that it builds on are not here.
  bool follow(const Message& task) {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kCountMax);
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

MethodEntry fedkseed() {
  return {.kind = {"fedkseed", "K agreed random directions; numbers up, sums of numbers down",
                   "Qin et al., ICML 2024, arXiv 2312.06353",
                   [] { return std::make_unique<FedkseedOptions>(); }},
          .needs = "loss",
          .payload = "scalars",
          .rung = 2,
          .alike = false,
          .own_code = true,
          .check =
              [](const config::Options& options) {
                const auto& own = dynamic_cast<const FedkseedOptions&>(options);
                if (!own.pro || own.upload == "slopes") return;
                throw ConfigError("method.pro is true, but method.upload is sums",
                                  "pro needs the magnitude of every slope: upload: slopes");
              },
          .make_server =
              [](const config::Options& options, const JobPlan& plan) {
                return std::make_unique<FedkseedServer>(
                    dynamic_cast<const FedkseedOptions&>(options), plan);
              },
          .make_client =
              [](const config::Options& options, const JobPlan& plan) {
                return std::make_unique<FedkseedClient>(
                    dynamic_cast<const FedkseedOptions&>(options), plan);
              }};
}

}  // namespace fedctl::methods
