// A whole run of a method, server and clients, over the in-process mesh (which encodes every frame)
// and the codecs: what tests of methods play.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "codec/error_feedback.hpp"
#include "methods/method.hpp"
#include "talk/codec_endpoint.hpp"
#include "talk/mesh.hpp"

namespace fedctl::test {

using methods::Message;
using methods::PeerId;

struct Played;

struct Game {
  config::Plugin method;
  methods::JobPlan plan;
  learn::LearnerPool* learners = nullptr;
  const data::Dataset* data = nullptr;
  std::vector<std::vector<std::size_t>> shares;  // examples, by client
  std::vector<config::Plugin> up = {};           // codec
  std::string error_feedback = "none";
  config::Plugin aggregate = config::make_plugin(aggregate::aggregator_kinds(), "mean");
  std::size_t threads = 1;
  std::uint64_t seed = 1;

  const Played* after = nullptr;    // an earlier play, whose states are gone on with
  std::set<PeerId> forgetful = {};  // clients that begin without theirs
  std::int64_t first_round = 1;
  std::int64_t stop_after = -1;           // end behind this round
  std::set<std::size_t> lost_sends = {};  // of all answers, by number: the client is lost there
  std::set<std::pair<PeerId, std::size_t>> lost_answers = {};  // of a client, by its own number
  std::map<PeerId, Message> lies = {};  // what a client answers instead of working
  // Sees every answer as the client gives it.
  std::function<void(PeerId, const Message& answer)> overhear = {};
  // Changes answers behind that.
  std::function<void(PeerId, Message& answer)> tamper = {};
  // Sees every task as the client reads it.
  std::function<void(PeerId, const Message& task)> spy = {};
  talk::Link link = {};
  std::map<PeerId, std::int64_t> unmasked = {};  // rounds that clients say they have unmasked
};

struct Played {
  std::vector<std::vector<float>> weights;  // after every round
  std::vector<methods::RoundReport> reports;
  std::vector<methods::RoundReport> retries;  // of rounds that were asked again
  std::vector<talk::Crossing> bytes;          // of every round
  Message server{"state"};
  std::vector<Message> clients;
  std::size_t shortages = 0;  // of answers
  std::string error;
  const std::vector<float>& last() const { return weights.back(); }
  talk::Crossing all_bytes() const {
    std::map<PeerId, talk::Crossing> rounds;
    for (const talk::Crossing& round : bytes) {
      rounds.emplace(static_cast<PeerId>(rounds.size()), round);
    }
    return talk::total(rounds);
  }
};

namespace detail {

struct Sink final : methods::RoundSink {
  Sink(Played& played_, const std::vector<float>& weights_, talk::Ledger& ledger_,
       std::int64_t stop)
      : played(played_), weights(weights_), ledger(ledger_), stop_after(stop) {}
  bool commit(const methods::RoundReport& report, const methods::ServerMethod& method) override {
    played.reports.push_back(report);
    played.weights.push_back(weights);
    played.bytes.push_back(talk::total(ledger.take()));
    played.server = method.save();
    return report.round != stop_after;
  }
  void lacking(const Shortage&) override { ++played.shortages; }
  void retry(const Shortage& shortage, const methods::ServerMethod&) override {
    ++played.shortages;
    played.retries.push_back(shortage.report);
  }
  Played& played;
  const std::vector<float>& weights;
  talk::Ledger& ledger;
  std::int64_t stop_after;
};

// Hands everything but messages on.
class Decorator : public talk::Endpoint {
 public:
  explicit Decorator(talk::Endpoint& inner) : inner_(inner) {}
  std::vector<PeerId> peers() const override { return inner_.peers(); }
  TimePoint now() const override { return inner_.now(); }
  void spend(Duration modelled) override { inner_.spend(modelled); }
  talk::Traffic take_sent_between() override { return inner_.take_sent_between(); }

 protected:
  talk::Endpoint& inner_;
};

// Shows what arrives to the game's spy.
class Watched final : public Decorator {
 public:
  Watched(talk::Endpoint& inner, PeerId id, const Game& game)
      : Decorator(inner), id_(id), game_(game) {}
  talk::Task<void> send(PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override {
    return inner_.send(to, exchange, passed(to, std::move(message)));
  }
  talk::Task<void> send_seen(PeerId to, talk::ExchangeId exchange, talk::SharedMessage message,
                             Seen seen) override {
    return inner_.send_seen(to, exchange, passed(to, std::move(message)), std::move(seen));
  }
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override {
    std::optional<talk::Envelope> envelope = co_await inner_.receive(until);
    const auto* task = envelope ? std::get_if<Message>(&envelope->event) : nullptr;
    if (game_.spy && task != nullptr) game_.spy(id_, *task);
    co_return envelope;
  }

 private:
  talk::SharedMessage passed(PeerId to, talk::SharedMessage message) const {
    if (to != talk::kServer) return message;
    if (game_.overhear) game_.overhear(id_, *message);
    if (!game_.tamper) return message;
    Message changed = *message;
    game_.tamper(id_, changed);
    return wire::share(std::move(changed));
  }

  PeerId id_;
  const Game& game_;
};

// A question that was answered is answered again with the same message, as real clients do
// (run/client_memory.hpp).
class Repeating final : public Decorator {
 public:
  using Decorator::Decorator;
  talk::Task<void> send(PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override {
    if (to == talk::kServer) {
      exchange_ = exchange;
      answer_ = message;
    }
    return inner_.send(to, exchange, std::move(message));
  }
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override {
    while (true) {
      std::optional<talk::Envelope> envelope = co_await inner_.receive(until);
      const bool asked = envelope && envelope->from == talk::kServer &&
                         std::holds_alternative<Message>(envelope->event);
      if (!asked || !answer_ || envelope->exchange != exchange_) co_return envelope;
      talk::SharedMessage again = answer_;
      co_await inner_.send(talk::kServer, exchange_, std::move(again));
    }
  }

 private:
  talk::ExchangeId exchange_ = 0;
  talk::SharedMessage answer_;
};

inline methods::Task<void> tell(methods::Endpoint& net, Message lie) {
  while (true) {
    const std::optional<talk::Envelope> envelope = co_await net.receive(kForever);
    if (std::holds_alternative<talk::Closed>(envelope->event)) co_return;
    if (std::holds_alternative<Message>(envelope->event)) {
      Message answer = lie;
      co_await talk::reply(net, *envelope, std::move(answer));
    }
  }
}

}  // namespace detail

// Streams are those of the game's seed.
inline Played play(const Game& game) {
  namespace asio = boost::asio;
  Played played;
  talk::Ledger ledger;
  journal::Journal journal("", {"test", "server", {}}, [] { return std::int64_t{0}; });
  const methods::MethodEntry& entry = methods::method(game.method.kind);
  methods::JobPlan plan = game.plan;
  plan.common = Rng(game.seed).stream("common");
  if (plan.initial.empty()) plan.initial.assign(plan.layout.size(), 0.0F);

  talk::Mesh::Options options;
  for (PeerId id = 0; id < plan.clients; ++id) options.clients.push_back(id);
  options.ledger = &ledger;
  options.link = [&game](PeerId) { return game.link; };
  if (entry.neighbours) {
    options.neighbours = [&](PeerId id) {
      return entry.neighbours(*game.method.options, plan.clients, id);
    };
  }
  talk::Mesh mesh(std::move(options));
  std::map<PeerId, std::size_t> answers;  // so far; the hook is called under the mesh's lock
  mesh.lose_at([&](PeerId id, std::size_t index) {
    return game.lost_answers.contains({id, answers[id]++}) || game.lost_sends.contains(index);
  });
  const auto chain_with = [&](const std::string& feedback) {
    return [&game, feedback](codec::Blocks blocks) {
      return codec::make_chain(game.up, feedback, blocks);
    };
  };
  const codec::ErrorFeedbackEntry* feedback = codec::error_feedback(game.error_feedback);
  const bool both = feedback != nullptr && feedback->both_sides;
  const auto none = [](codec::Blocks) { return std::unique_ptr<codec::Codec>(); };

  struct Client {
    std::unique_ptr<detail::Repeating> memory;
    std::unique_ptr<methods::ClientMethod> method;
    talk::CodecEndpoint net;
    methods::ClientContext context;
    std::unique_ptr<detail::Watched> watched = {};
  };
  asio::thread_pool pool(game.threads);
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<asio::any_io_executor> seats;
  for (PeerId id = 0; id < plan.clients; ++id) {
    const auto number = static_cast<std::size_t>(id);
    seats.emplace_back(asio::make_strand(pool));
    talk::CodecEndpoint::Options codecs;
    codecs.out = chain_with(game.error_feedback);
    codecs.out_has_state = game.error_feedback != "none";
    codecs.in = none;
    codecs.neighbours = static_cast<bool>(entry.neighbours);
    codecs.layout = plan.layout;
    codecs.rng = Rng(game.seed).stream("codec", id);
    auto memory = std::make_unique<detail::Repeating>(mesh.attach(id, seats.back()));
    talk::Endpoint& below = *memory;
    clients.emplace_back(  // made in its place: an endpoint does not move
        new Client{std::move(memory),
                   entry.make_client(*game.method.options, plan),
                   talk::CodecEndpoint(below, std::move(codecs)),
                   {plan, id, *game.learners, *game.data, game.shares[number],
                    Rng(game.seed).stream("client", id)}});
    clients.back()->watched = std::make_unique<detail::Watched>(clients.back()->net, id, game);
    if (const auto found = game.unmasked.find(id); found != game.unmasked.end()) {
      clients.back()->method->has_unmasked(found->second);
    }
    if (game.after != nullptr && !game.forgetful.contains(id)) {
      clients.back()->method->load(game.after->clients[number]);
    }
  }
  const asio::any_io_executor home = asio::make_strand(pool);
  talk::CodecEndpoint::Options codecs;
  codecs.out = none;
  codecs.in = chain_with(both ? game.error_feedback : "none");
  codecs.in_has_state = both;
  codecs.layout = plan.layout;
  talk::CodecEndpoint server(mesh.attach(talk::kServer, home), std::move(codecs));
  const auto server_method = entry.make_server(*game.method.options, plan);
  std::vector<float> weights = plan.initial;
  if (game.after != nullptr) {
    server_method->load(game.after->server);
    weights = game.after->last();
  }
  detail::Sink sink(played, weights, ledger, game.stop_after);
  methods::Stragglers stragglers(false);
  std::unique_ptr<aggregate::Aggregator> aggregator;
  for (const aggregate::AggregatorEntry& one : aggregate::aggregators()) {
    if (one.kind.name == game.aggregate.kind) aggregator = one.make(*game.aggregate.options);
  }
  methods::ServerContext context{
      plan,       weights,        *aggregator,     Rng(game.seed).stream("server"), journal, sink,
      stragglers, *game.learners, game.first_round};
  for (std::size_t i = 0; i < clients.size(); ++i) {
    Client& client = *clients[i];
    const auto lie = game.lies.find(static_cast<PeerId>(i));
    asio::co_spawn(seats[i],
                   lie != game.lies.end() ? detail::tell(client.net, lie->second)
                                          : client.method->run(*client.watched, client.context),
                   [&mesh, i](std::exception_ptr error) {
                     if (error) std::rethrow_exception(error);
                     mesh.detach(static_cast<PeerId>(i), "done");
                   });
  }
  asio::co_spawn(home, server_method->run(server, context), [&](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Error& problem) {
      played.error = problem.what();
    }
    mesh.detach(talk::kServer, "done");
  });
  pool.join();
  for (const auto& client : clients) played.clients.push_back(client->method->save());
  return played;
}

// A problem given by a function: client `id`'s loss at w, and its gradient.
using Objective =
    std::function<double(PeerId id, std::span<const float> w, std::span<float> slope)>;

// Sets a text option by its key, as the experiment file would.
inline void choose(config::Plugin& plugin, std::string_view wanted, const std::string& to) {
  struct Setter final : config::Fields {
    std::string_view wanted;
    std::string to;
    void integer(std::string_view, std::int64_t&, config::Whole, std::string_view) override {}
    void real(std::string_view, double&, config::Range, std::string_view) override {}
    void boolean(std::string_view, bool&, std::string_view) override {}
    void text(std::string_view key, std::string& value, config::Text, std::string_view) override {
      if (key == wanted) value = to;
    }
    void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
    void section(std::string_view, config::Options&, std::string_view) override {}
    void plugin(std::string_view, config::Plugin&, const config::Kinds&,
                std::string_view) override {}
    void plugins(std::string_view, std::vector<config::Plugin>&, const config::Kinds&, std::size_t,
                 std::string_view) override {}
  } setter;
  setter.wanted = wanted;
  setter.to = to;
  plugin.options->fields(setter);
}

// Example i is client i's; the model is the objective itself.
class Problem {
 public:
  // Losses of clients 0 .. clients - 1 of d weights; the methods' train options are plain SGD.
  Problem(std::int64_t clients, std::size_t d, Objective objective, double lr = 0.01)
      : data_(clients) {
    struct Factory final : learn::LearnerFactory {
      Factory(std::size_t d_, Objective objective_) : d(d_), objective(std::move(objective_)) {}
      std::unique_ptr<learn::Learner> make() override {
        return std::make_unique<Model>(d, objective);
      }
      std::size_t d;
      Objective objective;
    };
    learners_ =
        std::make_unique<learn::LearnerPool>(std::make_unique<Factory>(d, std::move(objective)), 1);
    game_.learners = learners_.get();
    game_.data = &data_;
    for (std::int64_t id = 0; id < clients; ++id) {
      game_.shares.push_back({static_cast<std::size_t>(id)});
    }
    methods::JobPlan& plan = game_.plan;
    plan.clients = plan.per_round = clients;
    plan.quorum = 0.1;
    plan.layout.add("w", "all", {static_cast<std::int64_t>(d)});
    plan.train.steps = 1;
    plan.train.batch_size = 1;
    plan.train.optimizer =
        config::make_plugin(learn::optimizer_kinds(), "sgd", {{"lr", lr}, {"momentum", 0}});
  }

  Game game(const std::string& method, const std::map<std::string, double>& options = {}) const {
    Game game = game_;
    game.method = config::make_plugin(methods::method_kinds(), method, options);
    return game;
  }

 private:
  class Data final : public data::Dataset {
   public:
    explicit Data(std::int64_t count) : count_(count) { info_.task = data::Task::regress; }
    const data::DatasetInfo& info() const override { return info_; }
    std::size_t size() const override { return static_cast<std::size_t>(count_); }
    std::int64_t label(std::size_t) const override { return 0; }
    std::size_t length(std::size_t) const override { return 1; }
    std::string field(std::size_t) const override { return ""; }
    data::Batch gather(std::span<const std::size_t> indices) const override {
      const auto number = static_cast<std::int64_t>(indices[0]);
      return {{"client", Tensor::of(std::span(&number, 1), {})}};
    }

   private:
    std::int64_t count_;
    data::DatasetInfo info_;
  };

  class Model final : public learn::Learner {
   public:
    Model(std::size_t d, const Objective& objective)
        : objective_(objective), weights_(d), gradient_(d) {
      layout_.add("w", "all", {static_cast<std::int64_t>(d)});
    }
    const Layout& layout() const override { return layout_; }
    std::span<float> weights() override { return weights_; }
    std::span<float> gradient() override { return gradient_; }
    double loss(const data::Batch& batch) override {
      return objective_(batch.at("client").i64()[0], weights_, {});
    }
    double loss_and_gradient(const data::Batch& batch) override {
      return objective_(batch.at("client").i64()[0], weights_, gradient_);
    }
    learn::Scores evaluate(const data::Batch& batch) override { return {loss(batch), 0, 1}; }
    Tensor logits(const data::Batch&) override { return {}; }
    learn::AdapterFiles adapter_files() override { return {}; }
    void load_adapter(const std::string&) override {}
    void save_merged(const std::string&, const std::map<std::string, std::string>&,
                     data::Storage) override {}
    std::string base_digest() const override { return ""; }
    std::size_t base_parameters() const override { return 0; }

   private:
    Objective objective_;
    Layout layout_;
    std::vector<float> weights_, gradient_;
  };

  Data data_;
  std::unique_ptr<learn::LearnerPool> learners_;
  Game game_;
};

}  // namespace fedctl::test
