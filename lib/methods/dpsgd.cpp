// D-PSGD: Lian, Zhang, Zhang, Hsieh, Zhang, Liu, "Can decentralized algorithms outperform
// centralized algorithms?", NeurIPS 2017, arXiv 1705.09056, algorithm 1; the conversation is that
// of detail/gossip.hpp.
//
//   x_i <- sum_j W_ij x_j + (x_i' - x_i)    x_i' after local training that began at x_i
//
// which is algorithm 1 where the local training is one step of SGD. W: Metropolis weights, 1/3 each
// on a ring. Of a client in a round: `exchanges` times the local training of `train` and an
// exchange with every neighbour, 4 d a neighbour each.
//
// What an exchange moves is W_ij (x_j - x_i), both as the other side has read them, so a codec
// leaves the mean of the models where it was.
#include <algorithm>

#include "methods/detail/gossip.hpp"
#include "methods/detail/local.hpp"

namespace fedctl::methods {

MethodEntry dpsgd();

namespace {

struct DpsgdOptions final : GossipOptions {
  std::int64_t exchanges = 1;
  void fields(config::Fields& fields) override {
    GossipOptions::fields(fields);
    fields.integer("exchanges", exchanges, {1, 10'000},
                   "with every neighbour in a round, each behind the local training of `train`");
  }
};

class DpsgdWork final : public GossipWork {
 public:
  DpsgdWork(const DpsgdOptions& options, const JobPlan& plan)
      : exchanges_(options.exchanges), graph_(options.graph, plan.clients), local_(plan) {}

  void start(std::span<const float> weights) override {
    local_.weights().assign(weights.begin(), weights.end());
  }
  std::span<const float> model() const override { return local_.weights(); }

  Task<std::optional<learn::TrainReport>> round(std::int64_t round, Endpoint& net, Gossip& gossip,
                                                ClientContext& ctx) override {
    learn::TrainReport all{.examples = static_cast<std::int64_t>(ctx.train.size())};
    const std::int64_t steps = learn::steps_of(ctx.plan.train, ctx.train.size());
    std::vector<float>& x = local_.weights();
    for (std::int64_t k = 0; k < exchanges_; ++k) {
      const std::vector<float> before = x;
      const std::string order = "order." + std::to_string(k);
      const learn::TrainReport report = local_.train(order.c_str(), round, steps, ctx);
      net.spend(seconds(static_cast<double>(report.steps) * ctx.plan.step_ms_of(ctx.id) * 1e-3));
      all.steps += report.steps;
      all.loss += report.loss / static_cast<double>(exchanges_);
      const ExchangeId number = exchange_of(round, static_cast<std::uint64_t>(k));
      const auto exchanged =
          co_await gossip.exchange(net, number, graph_.neighbours(ctx.id), before);
      if (!exchanged) co_return std::nullopt;
      for (const auto& [neighbour, read] : *exchanged) {
        const auto w = static_cast<float>(graph_.weight(ctx.id, neighbour));
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += w * (read.theirs[i] - read.ours[i]);
      }
    }
    co_return all;
  }

  void save(Message& state) const override { local_.save(state); }
  void load(const Message& state) override { local_.load(state); }

 private:
  std::int64_t exchanges_;
  Graph graph_;
  LocalTraining local_;
};

}  // namespace

MethodEntry dpsgd() {
  MethodEntry entry =
      gossip_entry({"dpsgd", "clients train and average with their neighbours; no server between",
                    "Lian et al., NeurIPS 2017, arXiv 1705.09056",
                    [] { return std::make_unique<DpsgdOptions>(); }});
  entry.make_client = [](const config::Options& options, const JobPlan& plan) {
    const auto& own = dynamic_cast<const DpsgdOptions&>(options);
    return make_gossip_client(options, plan, std::make_unique<DpsgdWork>(own, plan));
  };
  return entry;
}

}  // namespace fedctl::methods
