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
#include "methods/detail/fedkseed.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "math/vectors.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {

MethodEntry fedkseed();

namespace {

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
    require_report(reply, from, ctx.plan);
    require_norm(math::norm(sums_in(reply, space_)), ctx.plan, "sums");
  }

  Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) override {
    const auto sum = ctx.aggregator.start(space_.count());
    Merged merged;
    for (const auto& [peer, reply] : replies) {
      const std::int64_t examples = add_report(merged, reply);
      sum->add({peer, static_cast<double>(examples), sums_in(reply, space_)});
      known_[peer] = round - 1;
      if (space_.options.pro) remember_magnitudes(slopes_in(reply, space_));
    }
    finish(merged);
    std::vector<float> mean(space_.count());
    sum->finish(mean);
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
                return make_fedkseed_client(dynamic_cast<const FedkseedOptions&>(options), plan);
              }};
}

}  // namespace fedctl::methods
