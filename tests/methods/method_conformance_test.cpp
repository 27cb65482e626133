// Every method of the registry, over the in-process mesh (which encodes every frame), on the
// quadratic toy.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <catch2/catch.hpp>

#include "data/registry.hpp"
#include "learn/spec.hpp"
#include "methods/method.hpp"
#include "talk/mesh.hpp"

using namespace fedctl;
using namespace fedctl::methods;
namespace asio = boost::asio;

namespace {

constexpr std::int64_t kClients = 6;

// Sets one real option by its key, as the experiment file would.
void set(config::Options& options, std::string_view wanted, double to) {
  struct Setter final : config::Fields {
    std::string_view wanted;
    double to = 0;
    void integer(std::string_view, std::int64_t&, config::Whole, std::string_view) override {}
    void real(std::string_view key, double& value, config::Range, std::string_view) override {
      if (key == wanted) value = to;
    }
    void boolean(std::string_view, bool&, std::string_view) override {}
    void text(std::string_view, std::string&, config::Text, std::string_view) override {}
    void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
    void section(std::string_view, config::Options&, std::string_view) override {}
    void plugin(std::string_view, config::Plugin&, const config::Kinds&,
                std::string_view) override {}
    void plugins(std::string_view, std::vector<config::Plugin>&, const config::Kinds&, std::size_t,
                 std::string_view) override {}
  } setter;
  setter.wanted = wanted;
  setter.to = to;
  options.fields(setter);
}

struct Toy {
  explicit Toy(const std::string& method_kind) {
    config::Plugin targets = config::make_plugin(data::dataset_kinds(), "quadratic_targets");
    source = data::open(targets, Rng(1).stream("data"));
    const config::Plugin by_field = config::make_plugin(data::partitioner_kinds(), "by_field");
    shares = data::partition(by_field, *source.train, kClients, 0, Rng(1).stream("partition"));
    const learn::LearnerSpec spec{config::make_plugin(learn::family_kinds(), "quadratic"),
                                  config::make_plugin(learn::adapter_kinds(), "full"),
                                  source.train->info(), Rng(1).stream("init")};
    learners = std::make_unique<learn::LearnerPool>(learn::make_factory(spec), 2);
    plan.rounds = 6;
    plan.clients = plan.per_round = kClients;
    plan.quorum = 0.5;
    plan.layout = learners->acquire()->layout();
    plan.train.steps = 4;
    plan.train.batch_size = 1;
    plan.train.optimizer = config::make_plugin(learn::optimizer_kinds(), "sgd");
    method = config::make_plugin(method_kinds(), method_kind);
    if (fedctl::methods::method(method_kind).plain_sgd)
      set(*plan.train.optimizer.options, "momentum", 0);
  }

  data::Source source;
  std::vector<data::Share> shares;
  std::unique_ptr<learn::LearnerPool> learners;
  JobPlan plan;
  config::Plugin method;
};

struct Recorder final : RoundSink {
  bool commit(const RoundReport& report, const ServerMethod& method) override {
    reports.push_back(report);
    weights_after.push_back(*weights);
    if (report.round == save_at) {
      saved.emplace(method.save());
      clients_saved = save_clients();
    }
    return report.round != stop_after;
  }
  std::vector<RoundReport> reports;
  std::vector<std::vector<float>> weights_after;
  const std::vector<float>* weights = nullptr;
  std::int64_t stop_after = -1, save_at = -1;
  std::optional<Message> saved;
  std::function<std::vector<Message>()> save_clients;  // who are idle at a boundary
  std::vector<Message> clients_saved;
};

struct Outcome {
  std::vector<float> weights;
  Recorder recorder;
  talk::Crossing bytes;
  std::string error;
};

struct Setting {
  std::size_t threads = 2;
  std::optional<std::size_t> lose_at = {};
  std::int64_t first_round = 1, stop_after = -1, save_at = -1;
  std::vector<float> weights = {};
  const Message* state = nullptr;
  const std::vector<Message>* client_states = nullptr;
  const Message* liar = nullptr;  // what client 0 answers instead of working
};

Task<void> liar(Endpoint& net, std::function<Message()> lie);

Outcome play(Toy& toy, Setting setting = {}) {
  Outcome outcome;
  talk::Ledger ledger;
  journal::Journal journal("", {"test", "server", {}}, [] { return std::int64_t{0}; });
  const MethodEntry& entry = method(toy.method.kind);
  talk::Mesh::Options options;
  for (PeerId id = 0; id < kClients; ++id) options.clients.push_back(id);
  options.ledger = &ledger;
  talk::Mesh mesh(std::move(options));
  if (setting.lose_at) {
    mesh.lose_at([at = *setting.lose_at](PeerId, std::size_t index) { return index == at; });
  }
  asio::thread_pool pool(setting.threads);
  struct Client {
    std::unique_ptr<ClientMethod> method;
    ClientContext context;
    asio::any_io_executor seat;
    Endpoint* endpoint;
  };
  std::vector<std::unique_ptr<Client>> clients;
  for (PeerId id = 0; id < kClients; ++id) {
    const asio::any_io_executor seat = asio::make_strand(pool);
    clients.push_back(std::make_unique<Client>(
        Client{entry.make_client(*toy.method.options, toy.plan),
               {toy.plan, id, *toy.learners, *toy.source.train,
                toy.shares[static_cast<std::size_t>(id)].train, Rng(1).stream("client", id)},
               seat,
               &mesh.attach(id, seat)}));
  }
  if (setting.client_states != nullptr) {
    for (std::size_t i = 0; i < clients.size(); ++i) {
      clients[i]->method->load((*setting.client_states)[i]);
    }
  }
  outcome.recorder.save_clients = [&clients] {
    std::vector<Message> states;
    for (const auto& client : clients) states.push_back(client->method->save());
    return states;
  };
  const asio::any_io_executor home = asio::make_strand(pool);
  Endpoint& server = mesh.attach(talk::kServer, home);
  const auto server_method = entry.make_server(*toy.method.options, toy.plan);
  if (setting.state != nullptr) server_method->load(*setting.state);
  outcome.weights =
      setting.weights.empty() ? std::vector<float>(toy.plan.layout.size()) : setting.weights;
  outcome.recorder.weights = &outcome.weights;
  outcome.recorder.stop_after = setting.stop_after;
  outcome.recorder.save_at = setting.save_at;
  config::Plugin mean = config::make_plugin(aggregate::aggregator_kinds(), "mean");
  const auto aggregator = aggregate::aggregators().front().make(*mean.options);
  Stragglers stragglers(false);
  ServerContext context{toy.plan, outcome.weights,  *aggregator, Rng(1).stream("server"),
                        journal,  outcome.recorder, stragglers,  setting.first_round};
  for (PeerId id = 0; id < kClients; ++id) {
    Client& client = *clients[static_cast<std::size_t>(id)];
    const Message* lie = id == 0 ? setting.liar : nullptr;
    asio::co_spawn(client.seat,
                   lie != nullptr ? liar(*client.endpoint, [lie] { return *lie; })
                                  : client.method->run(*client.endpoint, client.context),
                   [&mesh, id](std::exception_ptr error) {
                     if (error) std::rethrow_exception(error);
                     mesh.detach(id, "done");
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
  outcome.bytes = talk::total(ledger.take());
  return outcome;
}

double distance_to_mean(Toy& toy, std::span<const float> weights) {
  // The minimiser of the average objective is the mean of the clients' targets.
  std::vector<double> mean(weights.size());
  for (std::size_t i = 0; i < toy.source.train->size(); ++i) {
    const data::Batch batch = toy.source.train->gather(std::span(&i, 1));
    const auto target = batch.at("target").f32();
    for (std::size_t j = 0; j < mean.size(); ++j)
      mean[j] += static_cast<double>(target[j]) / kClients;
  }
  double sum = 0;
  for (std::size_t j = 0; j < mean.size(); ++j) {
    const double gap = static_cast<double>(weights[j]) - mean[j];
    sum += gap * gap;
  }
  return std::sqrt(sum);
}

std::vector<std::string> all_methods() {
  std::vector<std::string> names;
  for (const MethodEntry& entry : fedctl::methods::methods()) names.push_back(entry.kind.name);
  return names;
}

}  // namespace

TEST_CASE("every method finishes, learns, and repeats bit for bit on any number of threads",
          "[methods]") {
  for (const std::string& name : all_methods()) {
    INFO(name);
    Toy toy(name);
    const Outcome one = play(toy, {.threads = 1});
    const Outcome three = play(toy, {.threads = 3});
    CHECK(one.error.empty());
    REQUIRE(one.recorder.reports.size() == 6);
    CHECK(one.weights == three.weights);
    CHECK(one.bytes.up == three.bytes.up);
    const std::vector<float> start(one.weights.size());
    CHECK(distance_to_mean(toy, one.weights) < 0.7 * distance_to_mean(toy, start));
  }
}

TEST_CASE("every method goes on from a saved boundary as if nothing had happened", "[methods]") {
  for (const std::string& name : all_methods()) {
    INFO(name);
    Toy toy(name);
    const Outcome whole = play(toy);
    const Outcome half = play(toy, {.stop_after = 3, .save_at = 3});
    REQUIRE(half.recorder.saved);
    const Outcome rest = play(toy, {.first_round = 4,
                                    .weights = half.weights,
                                    .state = &*half.recorder.saved,
                                    .client_states = &half.recorder.clients_saved});
    CHECK(rest.weights == whole.weights);
  }
}

TEST_CASE("every method ends cleanly when a client is lost at any send", "[methods]") {
  for (const std::string& name : all_methods()) {
    Toy toy(name);
    toy.plan.rounds = 2;
    for (std::size_t at = 0; at < 2 * kClients; ++at) {
      INFO(name << ", lost at send " << at);
      const Outcome outcome = play(toy, {.lose_at = at});
      CHECK(outcome.error.empty());
      REQUIRE(outcome.recorder.reports.size() == 2);
      CHECK(outcome.recorder.reports[0].lost + outcome.recorder.reports[1].lost == 1);
    }
  }
}

TEST_CASE("fedavg sends 4 d bytes of payload each way", "[methods][fedavg]") {
  Toy toy("fedavg");
  const Outcome outcome = play(toy);
  const std::size_t messages = 6 * kClients;
  CHECK(outcome.bytes.down.payload == messages * 4 * toy.plan.layout.size());
  CHECK(outcome.bytes.up.payload == messages * 4 * toy.plan.layout.size());
}

namespace {

// A client that answers with whatever it likes.
Task<void> liar(Endpoint& net, std::function<Message()> lie) {
  while (true) {
    const std::optional<talk::Envelope> envelope = co_await net.receive(kForever);
    if (std::holds_alternative<talk::Closed>(envelope->event)) co_return;
    if (std::holds_alternative<Message>(envelope->event)) {
      co_await talk::reply(net, *envelope, lie());
    }
  }
}

}  // namespace

TEST_CASE("a lying client is rejected and the round goes on without it", "[methods][hostile]") {
  Toy toy("fedavg");
  toy.plan.rounds = 1;
  const auto size = static_cast<std::int64_t>(toy.plan.layout.size());
  const auto update = [](Tensor delta, std::int64_t examples, double loss) {
    return Message("update")
        .with("delta", std::move(delta))
        .with("examples", examples)
        .with("steps", std::int64_t{1})
        .with("loss", loss);
  };
  Tensor nan = Tensor::zeros(DType::f32, {size});
  nan.f32()[3] = std::numeric_limits<float>::quiet_NaN();
  const Tensor good = Tensor::zeros(DType::f32, {size});
  const std::vector<Message> lies = {
      update(nan, 1, 0),
      update(Tensor::zeros(DType::f32, {size + 1}), 1, 0),
      update(Tensor::zeros(DType::f32, {size, 1}), 1, 0),
      update(Tensor::zeros(DType::f64, {size}), 1, 0),
      update(good, 0, 0),
      update(good, -5, 0),
      update(good, 1, std::numeric_limits<double>::infinity()),
      update(good, 1, 0).with("holdout_count", std::int64_t{0}),
      update(good, 1, 0).with("holdout_count", std::int64_t{4}),
      update(good, 1, 0)
          .with("holdout_count", std::int64_t{4})
          .with("holdout_correct", std::int64_t{5})
          .with("holdout_loss", 1.0),
      update(good, 1, 0)
          .with("holdout_count", std::int64_t{4})
          .with("holdout_correct", std::int64_t{4})
          .with("holdout_loss", -1.0),
      Message("update"),
      Message("surprise"),
      Message(kFailed),
  };
  for (const Message& lie : lies) {
    const Outcome outcome = play(toy, {.liar = &lie});
    CHECK(outcome.error.empty());
    REQUIRE(outcome.recorder.reports.size() == 1);
    CHECK(outcome.recorder.reports[0].rejected == 1);
    CHECK(outcome.recorder.reports[0].replied == kClients - 1);
  }
}

// With f_k(w) = |w - c_k|^2 / 2 and plain gradient descent, tau local steps contract every
// coordinate by (1 - lr)^tau towards c_k, so the mean contracts towards the mean of the c_k:
//   x_{t} = c + (1 - lr)^{tau t} (x_0 - c)
TEST_CASE("fedavg follows its closed form on the toy problem", "[methods][fedavg]") {
  Toy toy("fedavg");
  const double lr = learn::learning_rate(toy.plan.train.optimizer);
  set(*toy.plan.train.optimizer.options, "momentum",
      0);  // it would make the recursion second-order
  const Outcome outcome = play(toy);
  const std::vector<float> start(outcome.weights.size());
  const double from = distance_to_mean(toy, start);
  for (std::size_t round = 1; round <= 6; ++round) {
    const double expected = from * std::pow(1 - lr, 4.0 * static_cast<double>(round));
    CHECK(distance_to_mean(toy, outcome.recorder.weights_after[round - 1]) ==
          Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("fedprox with mu = 0 is fedavg bit for bit, and mu > 0 keeps clients closer",
          "[methods][fedprox]") {
  Toy plain("fedavg");
  Toy prox("fedprox");
  set(*prox.method.options, "mu", 0);
  CHECK(play(plain).weights == play(prox).weights);
  set(*prox.method.options, "mu", 5);
  CHECK(play(prox).recorder.reports[0].update_norm <
        0.9 * play(plain).recorder.reports[0].update_norm);
}
