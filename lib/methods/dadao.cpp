// DADAO: Nabli, Oyallon, "DADAO: decoupled accelerated decentralized asynchronous optimization",
// ICML 2023, arXiv 2208.00779; the conversation is that of detail/gossip.hpp, the algebra in
// detail/dadao.hpp.
//
//   a gradient at node i, rate 1            g = grad f_i(x_i) - nu x_i - y~_i;  x, x~, y~ move
//   an exchange on edge (i, j), rate l_ij   q = (y + z)_i - (y + z)_j;  z, z~ move, at both ends
//   between them                            six vectors drift, in closed form
//
// A round is `time` units, one unit the mean time between two gradients of a node. Of a client in a
// round: time gradients and time (sum_j l_ij) exchanges on average, 4 d each.
//
// Deviation from the paper: the times of all events are drawn in advance from streams that both
// ends know, instead of by clocks, so that the result depends on no machine's speed; who waits for
// whom is the two ends of one edge, still. The state is double, what is exchanged float32:
// consensus has a floor of float32's precision. A gradient is that of one batch of
// train.batch_size. Unconfirmed: how stochastic gradients' iterates are averaged for the report;
// they are not.
#include "methods/detail/dadao.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "methods/detail/gossip.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {

MethodEntry dadao();

namespace {

struct DadaoOptions final : GossipOptions {
  double smoothness = 1, convexity = 0.1, time = 10, rate = 0;
  void fields(config::Fields& fields) override {
    GossipOptions::fields(fields);
    fields.real("smoothness", smoothness, {.above = 0}, "L, of every client's loss");
    fields.real("convexity", convexity, {.above = 0}, "mu, of every client's loss");
    fields.real("time", time, {.above = 0, .max = 1e6},
                "of a round, in mean times from gradient to gradient");
    fields.real("rate", rate, {.above = 0, .max = 1e9, .zero = "auto"},
                "exchanges in a unit of time, of all edges together; auto: the fewest that do");
  }
  void check() const {
    if (convexity <= smoothness) return;
    throw ConfigError("method.convexity is " + std::to_string(convexity) + ", method.smoothness " +
                          std::to_string(smoothness),
                      "no function is more convex than smooth");
  }
};

// What all nodes know.
struct Schedule {
  Schedule(const DadaoOptions& options, const JobPlan& plan)
      : graph(options.graph, plan.clients), edges(graph.edges()) {
    const Graph::Constants unit = graph.constants();
    const double needed = std::sqrt(2 * unit.chi1 * unit.chi2);
    rate = options.rate == 0 ? needed : options.rate;
    if (rate < needed * (1 - 1e-12)) {
      throw ConfigError("method.rate is " + std::to_string(rate) + ", this graph of " +
                            std::to_string(plan.clients) + " clients needs " +
                            std::to_string(needed) + " (chi1 chi2 <= 1/2)",
                        "leave rate out");
    }
    chi1 = unit.chi1 / rate;
  }
  Graph graph;
  std::vector<std::pair<PeerId, PeerId>> edges;
  double rate = 0, chi1 = 0;
};

struct Event {
  double at = 0;
  PeerId with = talk::kServer;  // kServer: a gradient
  bool operator<(const Event& other) const {
    return std::tie(at, with) < std::tie(other.at, other.with);
  }
};

// A Poisson process; it forgets, so every round begins one.
void add_events(std::vector<Event>& events, Rng rng, double rate, double time, PeerId with) {
  double at = 0;
  while ((at -= std::log1p(-rng.uniform_double()) / rate) < time) events.push_back({at, with});
}

class DadaoWork final : public GossipWork {
 public:
  DadaoWork(const DadaoOptions& options, const JobPlan& plan)
      : time_(options.time),
        size_(plan.layout.size()),
        schedule_(options, plan),
        constants_(options.smoothness, options.convexity, schedule_.chi1) {}

  void start(std::span<const float> weights) override {
    model_.assign(weights.begin(), weights.end());
    for (auto& vector : state_.vectors) vector.assign(weights.size(), 0);
    std::ranges::copy(weights, state_.vectors[DadaoState::x].begin());
  }
  std::span<const float> model() const override { return model_; }

  Task<std::optional<learn::TrainReport>> round(std::int64_t round, Endpoint& net, Gossip& gossip,
                                                ClientContext& ctx) override {
    learn::TrainReport report{.examples = static_cast<std::int64_t>(ctx.train.size())};
    double now = 0;
    const std::vector<Event> events = events_of(round, ctx);
    for (const Event& event : events) {
      state_.drift(constants_, event.at - now);
      now = event.at;
      if (event.with == talk::kServer) {
        report.loss += gradient(round, report.steps++, ctx);
        net.spend(seconds(ctx.plan.step_ms_of(ctx.id) * 1e-3));
        continue;
      }
      const auto place = static_cast<std::uint64_t>(std::ldexp(event.at / time_, 40));
      std::vector<PeerId> with{event.with};
      const auto exchanged =
          co_await gossip.exchange(net, exchange_of(round, place), std::move(with), state_.value());
      if (!exchanged) co_return std::nullopt;
      const auto found = exchanged->find(event.with);
      if (found == exchanged->end()) continue;
      const auto& [ours, theirs] = found->second;
      std::vector<double> difference(ours.size());
      for (std::size_t i = 0; i < ours.size(); ++i) difference[i] = double{ours[i]} - theirs[i];
      state_.exchange_event(constants_, difference);
    }
    state_.drift(constants_, time_ - now);
    read_model();
    if (report.steps > 0) report.loss /= static_cast<double>(report.steps);
    co_return report;
  }

  void save(Message& state) const override {
    for (std::size_t k = 0; k < DadaoState::kCount; ++k) {
      state.tensors.emplace(name_of(k), Tensor::of(state_.vectors[k], {}));
    }
  }
  void load(const Message& state) override {
    if (state.tensors.empty()) return;
    for (std::size_t k = 0; k < DadaoState::kCount; ++k) {
      state_.vectors[k] = doubles_in(state, name_of(k).c_str(), size_);
    }
    read_model();
  }

 private:
  static std::string name_of(std::size_t k) { return "vector." + std::to_string(k); }

  void read_model() {
    const auto& x = state_.vectors[DadaoState::x];
    model_.resize(x.size());
    std::ranges::transform(x, model_.begin(), [](double v) { return static_cast<float>(v); });
  }

  // In order, the same of an edge at both its ends.
  std::vector<Event> events_of(std::int64_t round, const ClientContext& ctx) const {
    std::vector<Event> events;
    const Rng& common = ctx.plan.common;
    add_events(events, common.stream("gradient", ctx.id, round), 1, time_, talk::kServer);
    const double rate = schedule_.rate / static_cast<double>(schedule_.edges.size());
    for (const PeerId other : schedule_.graph.neighbours(ctx.id)) {
      const auto [low, high] = std::minmax(ctx.id, other);
      add_events(events, common.stream("edge", low, high, round), rate, time_, other);
    }
    std::sort(events.begin(), events.end());
    return events;
  }

  // An event at x; returns the loss.
  double gradient(std::int64_t round, std::int64_t step, ClientContext& ctx) {
    std::vector<std::size_t> batch(ctx.train.begin(), ctx.train.end());
    const auto size = static_cast<std::size_t>(ctx.plan.train.batch_size);
    if (size < batch.size()) {
      ctx.rng.stream("order", round, step).shuffle(std::span(batch));
      batch.resize(size);
    }
    read_model();
    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    std::ranges::copy(model_, learner->weights().begin());
    const double loss = learner->loss_and_gradient(ctx.data.gather(batch));
    const std::span<const float> slope = learner->gradient();
    state_.gradient_event(constants_, {slope.begin(), slope.end()});
    return loss;
  }

  double time_;
  std::size_t size_;
  Schedule schedule_;
  DadaoConstants constants_;
  DadaoState state_;
  std::vector<float> model_;  // x
};

}  // namespace

MethodEntry dadao() {
  MethodEntry entry = gossip_entry(
      {"dadao", "accelerated gossip of clients whose gradients and exchanges are apart",
       "Nabli and Oyallon, ICML 2023, arXiv 2208.00779",
       [] { return std::make_unique<DadaoOptions>(); }});
  entry.plain_sgd = true;
  entry.check = [](const config::Options& options) {
    dynamic_cast<const DadaoOptions&>(options).check();
  };
  entry.make_server = [](const config::Options& options, const JobPlan& plan) {
    Schedule(dynamic_cast<const DadaoOptions&>(options), plan);
    return make_gossip_server(options);
  };
  entry.make_client = [](const config::Options& options, const JobPlan& plan) {
    const auto& own = dynamic_cast<const DadaoOptions&>(options);
    return make_gossip_client(options, plan, std::make_unique<DadaoWork>(own, plan));
  };
  return entry;
}

}  // namespace fedctl::methods
