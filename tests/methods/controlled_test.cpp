// SCAFFOLD, SCALLION and SCAFCOM on the sheet's problem: 10 quadratics of different curvature and
// optimum, d = 40, 4 of 10 clients a round, 5 exact gradient steps of rate 0.01; through the mesh
// and the codecs.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "codec/codec.hpp"
#include "math/vectors.hpp"
#include "methods/method.hpp"
#include "talk/codec_endpoint.hpp"
#include "talk/mesh.hpp"

using namespace fedctl;
using namespace fedctl::methods;
namespace asio = boost::asio;

namespace {

constexpr std::int64_t kClients = 10;
constexpr std::size_t kSize = 40;
constexpr double kRate = 0.01;

struct Problem {
  std::vector<std::vector<float>> curvature, optimum;
  Problem() {
    Rng rng(11);
    for (std::int64_t client = 0; client < kClients; ++client) {
      curvature.emplace_back();
      optimum.emplace_back();
      for (std::size_t i = 0; i < kSize; ++i) {
        curvature.back().push_back(static_cast<float>(rng.uniform(0.5, 5)));
        optimum.back().push_back(static_cast<float>(5 * rng.normal()));
      }
    }
  }
  double distance(std::span<const float> x) const {
    double squares = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
      double top = 0, bottom = 0;
      for (std::size_t c = 0; c < kClients; ++c) {
        top += double{curvature[c][i]} * optimum[c][i];
        bottom += curvature[c][i];
      }
      squares += std::pow(x[i] - top / bottom, 2);
    }
    return std::sqrt(squares);
  }
};
const Problem kProblem;

Layout layout() {
  Layout layout;
  layout.add("w", "all", {static_cast<std::int64_t>(kSize)});
  return layout;
}

// Example i is client i's.
class Data final : public data::Dataset {
 public:
  Data() { info_.task = data::Task::regress; }
  const data::DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return kClients; }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t) const override { return ""; }
  data::Batch gather(std::span<const std::size_t> indices) const override {
    const auto number = static_cast<std::int64_t>(indices[0]);
    return {{"client", Tensor::of(std::span(&number, 1), {})}};
  }

 private:
  data::DatasetInfo info_;
};

class Quadratic final : public learn::Learner {
 public:
  const Layout& layout() const override { return layout_; }
  std::span<float> weights() override { return weights_; }
  std::span<float> gradient() override { return gradient_; }
  double loss(const data::Batch& batch) override { return loss_and_gradient(batch); }
  double loss_and_gradient(const data::Batch& batch) override {
    const auto client = static_cast<std::size_t>(batch.at("client").i64()[0]);
    double loss = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
      const float away = weights_[i] - kProblem.optimum[client][i];
      gradient_[i] = kProblem.curvature[client][i] * away;
      loss += 0.5 * gradient_[i] * away;
    }
    return loss;
  }
  learn::Scores evaluate(const data::Batch&) override { return {}; }
  Tensor logits(const data::Batch&) override { return {}; }
  void save_adapter(const std::string&, const std::map<std::string, std::string>&) override {}
  void load_adapter(const std::string&) override {}
  void save_merged(const std::string&, const std::map<std::string, std::string>&,
                   data::Storage) override {}
  std::string base_digest() const override { return ""; }
  std::size_t base_parameters() const override { return 0; }

 private:
  Layout layout_ = ::layout();
  std::vector<float> weights_ = std::vector<float>(kSize);
  std::vector<float> gradient_ = std::vector<float>(kSize);
};
struct Factory final : learn::LearnerFactory {
  std::unique_ptr<learn::Learner> make() override { return std::make_unique<Quadratic>(); }
};

struct Setting {
  std::string method = "scaffold";
  std::map<std::string, double> options = {};
  std::vector<config::Plugin> up = {};
  std::int64_t rounds = 50, per_round = 4, steps = 5;
  std::vector<std::size_t> lost_sends = {};  // of all clients' answers, by number
};

struct Outcome {
  std::vector<std::vector<float>> weights;  // after every round
  std::vector<RoundReport> reports;
  Message server{"state"};
  std::vector<Message> clients;
  talk::Crossing bytes;
  std::string error;
  double distance() const { return error.empty() ? kProblem.distance(weights.back()) : INFINITY; }
};

struct Sink final : RoundSink {
  bool commit(const RoundReport& report, const ServerMethod&) override {
    outcome->reports.push_back(report);
    outcome->weights.push_back(*weights);
    return true;
  }
  Outcome* outcome = nullptr;
  const std::vector<float>* weights = nullptr;
};

// `start`: of an earlier play, whose states are gone on with.
Outcome play(const Setting& setting, const Outcome* start = nullptr,
             std::set<PeerId> forgetful = {}) {
  Outcome outcome;
  talk::Ledger ledger;
  journal::Journal journal("", {"test", "server", {}}, [] { return std::int64_t{0}; });
  const MethodEntry& entry = method(setting.method);
  const config::Plugin options =
      config::make_plugin(method_kinds(), setting.method, setting.options);
  JobPlan plan;
  plan.rounds = setting.rounds;
  plan.clients = kClients;
  plan.per_round = setting.per_round;
  plan.quorum = 0.1;
  plan.layout = layout();
  plan.train.steps = setting.steps;
  plan.train.batch_size = 1;
  plan.train.optimizer =
      config::make_plugin(learn::optimizer_kinds(), "sgd", {{"lr", kRate}, {"momentum", 0}});
  learn::LearnerPool learners(std::make_unique<Factory>(), 1);
  const Data data;
  std::vector<std::size_t> own(kClients);
  for (std::size_t i = 0; i < own.size(); ++i) own[i] = i;

  talk::Mesh::Options mesh_options;
  for (PeerId id = 0; id < kClients; ++id) mesh_options.clients.push_back(id);
  mesh_options.ledger = &ledger;
  talk::Mesh mesh(std::move(mesh_options));
  mesh.lose_at([&](PeerId, std::size_t index) {
    return std::ranges::find(setting.lost_sends, index) != setting.lost_sends.end();
  });
  const auto chain = [&](codec::Blocks blocks) {
    return codec::make_chain(setting.up, "none", blocks);
  };
  const auto none = [](codec::Blocks) { return std::unique_ptr<codec::Codec>(); };
  asio::thread_pool pool(1);
  struct Client {
    std::unique_ptr<ClientMethod> method;
    talk::CodecEndpoint net;
    ClientContext context;
  };
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<asio::any_io_executor> seats;
  for (PeerId id = 0; id < kClients; ++id) {
    const auto number = static_cast<std::size_t>(id);
    seats.emplace_back(asio::make_strand(pool));
    talk::CodecEndpoint::Options codecs;
    codecs.out = chain;
    codecs.in = none;
    codecs.layout = layout();
    codecs.rng = Rng(1).stream("codec", id);
    clients.push_back(std::make_unique<Client>(Client{
        entry.make_client(*options.options, plan),
        talk::CodecEndpoint(mesh.attach(id, seats.back()), std::move(codecs)),
        {plan, id, learners, data, std::span(&own[number], 1), Rng(1).stream("client", id)}}));
    if (start != nullptr && !forgetful.contains(id)) {
      clients.back()->method->load(start->clients[number]);
    }
  }
  const asio::any_io_executor home = asio::make_strand(pool);
  talk::CodecEndpoint::Options codecs;
  codecs.out = none;
  codecs.in = chain;
  codecs.layout = layout();
  talk::CodecEndpoint server(mesh.attach(talk::kServer, home), std::move(codecs));
  const auto server_method = entry.make_server(*options.options, plan);
  if (start != nullptr) server_method->load(start->server);
  std::vector<float> weights = start != nullptr ? start->weights.back() : std::vector<float>(kSize);
  Sink sink;
  sink.outcome = &outcome;
  sink.weights = &weights;
  Stragglers stragglers(false);
  config::Plugin mean = config::make_plugin(aggregate::aggregator_kinds(), "mean");
  const auto aggregator = aggregate::aggregators().front().make(*mean.options);
  ServerContext context{plan,    weights, *aggregator, Rng(1).stream("server"),
                        journal, sink,    stragglers,  1};
  for (std::size_t i = 0; i < clients.size(); ++i) {
    asio::co_spawn(seats[i], clients[i]->method->run(clients[i]->net, clients[i]->context),
                   [&mesh, i](std::exception_ptr error) {
                     if (error) std::rethrow_exception(error);
                     mesh.detach(static_cast<PeerId>(i), "done");
                   });
  }
  asio::co_spawn(home, server_method->run(server, context), [&](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Error& problem) {
      outcome.error = problem.what();
    }
    mesh.detach(talk::kServer, "done");
  });
  pool.join();
  outcome.server = server_method->save();
  for (const auto& client : clients) outcome.clients.push_back(client->method->save());
  outcome.bytes = talk::total(ledger.take());
  return outcome;
}

config::Plugin codec_of(const char* kind, std::map<std::string, double> numbers) {
  return config::make_plugin(codec::codec_kinds(), kind, numbers);
}

// SCAFFOLD as its paper has it, with two vectors up, in double; the same cohorts.
std::vector<std::vector<double>> two_vector_scaffold(const Setting& setting) {
  JobPlan plan;
  plan.clients = kClients;
  std::vector<PeerId> all(kClients);
  for (PeerId id = 0; id < kClients; ++id) all[static_cast<std::size_t>(id)] = id;
  std::vector<double> x(kSize), c(kSize);
  std::vector<std::vector<double>> own(kClients, std::vector<double>(kSize)), sequence;
  for (std::int64_t round = 1; round <= setting.rounds; ++round) {
    const auto cohort = sample_cohort(plan, setting.per_round,
                                      Rng(1).stream("server").stream("sampling", round), all);
    std::vector<double> moved(kSize), changed(kSize);
    for (const PeerId id : cohort) {
      const auto k = static_cast<std::size_t>(id);
      for (std::size_t i = 0; i < kSize; ++i) {
        double y = x[i];
        for (std::int64_t step = 0; step < setting.steps; ++step) {
          const double slope = kProblem.curvature[k][i] * (y - kProblem.optimum[k][i]);
          y -= kRate * (slope - own[k][i] + c[i]);
        }
        const double next =
            own[k][i] - c[i] + (x[i] - y) / (kRate * static_cast<double>(setting.steps));
        moved[i] += (y - x[i]) / static_cast<double>(cohort.size());
        changed[i] += (next - own[k][i]) / kClients;
        own[k][i] = next;
      }
    }
    for (std::size_t i = 0; i < kSize; ++i) {
      x[i] += moved[i];
      c[i] += changed[i];
    }
    sequence.push_back(x);
  }
  return sequence;
}

double difference(std::span<const float> a, std::span<const double> b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

// |c - mean of c_i| over the mean of |c_i|; c itself vanishes at the optimum.
double imbalance(const Outcome& outcome) {
  const auto c = outcome.server.tensors.at("control").f32();
  std::vector<double> mean(kSize);
  double norms = 0;
  for (const Message& client : outcome.clients) {
    const auto own = client.tensors.at("control").f32();
    norms += math::norm(own) / kClients;
    for (std::size_t i = 0; i < kSize; ++i) mean[i] += double{own[i]} / kClients;
  }
  double away = 0;
  for (std::size_t i = 0; i < kSize; ++i) away += std::pow(c[i] - mean[i], 2);
  return std::sqrt(away) / norms;
}

}  // namespace

TEST_CASE("the one-vector form gives SCAFFOLD's iterates", "[methods][controlled]") {
  const Setting setting{.rounds = 60};
  const auto reference = two_vector_scaffold(setting);
  const Outcome scaffold = play(setting);
  for (std::size_t round = 0; round < 60; ++round) {
    CHECK(difference(scaffold.weights[round], reference[round]) < 2e-5);
  }
  const Outcome scallion = play({.method = "scallion", .options = {{"scaling", 1}}, .rounds = 60});
  CHECK(scallion.weights == scaffold.weights);
  const Outcome scafcom = play({.method = "scafcom", .options = {{"momentum", 1}}, .rounds = 60});
  for (std::size_t round = 0; round < 60; ++round) {
    CHECK(difference(scafcom.weights[round], reference[round]) < 2e-5);
  }
  // Two vectors of 4 d bytes down, one up.
  CHECK(scaffold.bytes.up.payload == 60 * 4 * 4 * kSize);
  CHECK(scaffold.bytes.down.payload == 60 * 4 * 8 * kSize);
}

TEST_CASE("with one step of all clients it is gradient descent", "[methods][controlled]") {
  const Outcome outcome = play({.rounds = 40, .per_round = kClients, .steps = 1});
  std::vector<double> x(kSize);
  for (std::size_t round = 0; round < 40; ++round) {
    for (std::size_t i = 0; i < kSize; ++i) {
      double slope = 0;
      for (std::size_t c = 0; c < kClients; ++c) {
        slope += kProblem.curvature[c][i] * (x[i] - kProblem.optimum[c][i]) / kClients;
      }
      x[i] -= kRate * slope;
    }
    CHECK(difference(outcome.weights[round], x) < 2e-5);
  }
}

TEST_CASE("unequal clients: FedAvg stalls, the controlled methods do not",
          "[methods][controlled]") {
  const auto end = [](const char* method, std::map<std::string, double> options,
                      std::vector<config::Plugin> up, std::int64_t rounds) {
    const Outcome outcome = play(
        {.method = method, .options = std::move(options), .up = std::move(up), .rounds = rounds});
    const double distance = outcome.distance();
    if (outcome.error.empty() && std::string(method) != "fedavg") CHECK(imbalance(outcome) < 1e-5);
    return distance;
  };
  const auto randk = [] { return std::vector{codec_of("randk", {{"ratio", 0.1}})}; };
  const auto topk = [] { return std::vector{codec_of("topk", {{"ratio", 0.1}})}; };
  const double fedavg = end("fedavg", {}, {}, 4000);
  const double scaffold = end("scaffold", {}, {}, 4000);
  const double scallion_10 = end("scallion", {{"scaling", 0.1}}, randk(), 4000);
  const double scallion_5 = end("scallion", {{"scaling", 0.05}}, randk(), 8000);
  const double scallion_1 = end("scallion", {{"scaling", 1}}, randk(), 1000);
  const double eden = end("scallion", {{"scaling", 0.6}}, {codec_of("eden", {{"bits", 1}})}, 4000);
  const double scafcom_1 = end("scafcom", {{"momentum", 1}}, topk(), 4000);
  const double scafcom_2 = end("scafcom", {{"momentum", 0.2}}, topk(), 4000);
  const double scafcom_3 = end("scafcom", {{"momentum", 0.1}}, topk(), 8000);
  WARN("distance to the optimum: fedavg "
       << fedavg << ", scaffold " << scaffold << ", scallion rand-4/40 a=0.1 " << scallion_10
       << ", a=0.05 " << scallion_5 << ", a=1 " << scallion_1 << ", eden 1 bit a=0.6 " << eden
       << ", scafcom top-4/40 b=1 " << scafcom_1 << ", b=0.2 " << scafcom_2 << ", b=0.1 "
       << scafcom_3);
  CHECK(fedavg > 0.3);
  // Where float32 ends.
  for (const double distance :
       {scaffold, scallion_10, scallion_5, eden, scafcom_1, scafcom_2, scafcom_3}) {
    CHECK(distance < 1e-4);
  }
  CHECK(scallion_1 > 1e3);  // beyond 2 / (1 + omega): diverges
}

TEST_CASE("an answer that got lost is taken out of the control variate", "[methods][controlled]") {
  for (const std::size_t lost : {3U, 17U, 18U}) {
    Setting setting{.method = "scafcom", .up = {codec_of("topk", {{"ratio", 0.2}})}, .rounds = 60};
    setting.lost_sends = {lost};
    const Outcome outcome = play(setting);
    CHECK(outcome.error.empty());
    std::int64_t gone = 0;
    for (const RoundReport& report : outcome.reports) gone += report.lost;
    CHECK(gone == 1);
    CHECK(imbalance(outcome) < 1e-5);
  }
}

TEST_CASE("a client that has lost its control variate is rejected", "[methods][controlled]") {
  const Setting setting{.rounds = 6, .per_round = kClients};
  const Outcome first = play(setting);
  const Outcome whole = play(setting, &first);
  CHECK(whole.reports[0].rejected == 0);
  const Outcome outcome = play(setting, &first, {3});
  for (const RoundReport& report : outcome.reports) CHECK(report.rejected == 1);
}
