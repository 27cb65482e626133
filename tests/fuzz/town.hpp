// A whole run of a method in one thread: its server, and two clients behind an endpoint that lets a
// Script change what the server or client 0 sends. Client 1 is honest.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "fuzz/script.hpp"
#include "math/vectors.hpp"
#include "methods/detail/averaging.hpp"
#include "support/parted.hpp"

namespace fedctl::test {

using methods::PeerId;
using methods::Task;
using talk::Envelope;
using talk::ExchangeId;
using talk::SharedMessage;

[[noreturn]] inline void fault(const std::string& what) {
  std::fprintf(stderr, "fault: %s\n", what.c_str());
  std::abort();
}

// A client's network: one question at a time, and neighbours that say what it says, changed.
class Line final : public talk::Endpoint {
 public:
  Line(std::vector<PeerId> peers, Script* script) : peers_(std::move(peers)), script_(script) {}

  std::vector<PeerId> peers() const override { return peers_; }
  TimePoint now() const override { return now_; }
  void spend(Duration modelled) override { now_ += modelled; }
  Task<void> send(PeerId to, ExchangeId exchange, SharedMessage message) override {
    if (to == talk::kServer) {
      answers.push_back(*message);
    } else if (script_ != nullptr) {
      Envelope envelope{to, exchange, *message};
      script_->change(std::get<wire::Message>(envelope.event));
      heard.push_back(std::move(envelope));
    }
    co_return;
  }
  // Forever is how long a client waits that has nothing to do.
  Task<std::optional<Envelope>> receive(TimePoint until) override {
    if (heard.empty()) {
      if (until == kForever) co_return Envelope{};
      now_ = until;
      co_return std::nullopt;
    }
    Envelope envelope = std::move(heard.front());
    heard.pop_front();
    co_return envelope;
  }

  std::deque<Envelope> heard;
  std::vector<wire::Message> answers;

 private:
  std::vector<PeerId> peers_;
  Script* script_;
  TimePoint now_{};
};

enum class Hostile { client, server };

// The server's network.
class Town final : public talk::Endpoint {
 public:
  static constexpr PeerId kClients = 2;

  Town(const Game& game, Script& script, Hostile hostile)
      : game_(game), entry_(methods::method(game.method.kind)), script_(script), hostile_(hostile) {
    for (PeerId id = 0; id < kClients; ++id) {
      std::vector<PeerId> peers = {talk::kServer};
      if (entry_.neighbours) {
        for (const PeerId other : entry_.neighbours(*game.method.options, kClients, id)) {
          peers.push_back(other);
        }
      }
      Script* const neighbours = id == 0 && hostile == Hostile::server ? &script : nullptr;
      clients_.push_back(
          {entry_.make_client(*game.method.options, game.plan),
           Line(peers, neighbours),
           {game.plan, id, *game.learners, *game.data, game.shares[static_cast<std::size_t>(id)],
            Rng(1).stream("client", id)}});
    }
  }

  // More messages than any run has: the server is told that it is over.
  bool closed() const { return messages_ > kMessagesMax; }

  std::vector<PeerId> peers() const override {
    return lost_ ? std::vector<PeerId>{1} : std::vector<PeerId>{0, 1};
  }
  TimePoint now() const override { return now_; }
  void spend(Duration) override {}
  Task<void> send(PeerId to, ExchangeId exchange, SharedMessage message) override {
    ++messages_;
    Client& client = clients_.at(static_cast<std::size_t>(to));
    if (to == 0 && lost_) co_return;
    Envelope question{talk::kServer, exchange, *message};
    client.line.answers.clear();
    try {
      if (to == 0 && hostile_ == Hostile::server) {
        script_.change(std::get<wire::Message>(question.event));
      }
      client.line.heard.push_back(std::move(question));
      co_await client.method->run(client.line, client.context);
      const wire::Message state = client.method->save();
      if (!state.scalars.empty() || !state.tensors.empty()) client.method->load(state);
    } catch (const RunDirectoryError& error) {
      fault(error.what());
    } catch (const QuorumError& error) {
      fault(error.what());
    } catch (const Error& error) {
      if (to != 0 || hostile_ == Hostile::client) fault(error.what());
      lost_ = true;
      arrived_.push_back({0, 0, talk::Lost{error.what()}});
    }
    for (const wire::Message& answer : client.line.answers) arrive(to, exchange, answer);
  }
  Task<std::optional<Envelope>> receive(TimePoint until) override {
    if (++messages_ > kMessagesMax) co_return Envelope{};
    now_ += std::chrono::milliseconds(1);
    if (arrived_.empty() || until <= now_) {
      now_ = std::max(now_, std::min(until, now_ + std::chrono::hours(1)));
      co_return std::nullopt;
    }
    Envelope envelope = std::move(arrived_.front());
    arrived_.pop_front();
    co_return envelope;
  }

 private:
  static constexpr std::size_t kMessagesMax = 2000;
  struct Client {
    std::unique_ptr<methods::ClientMethod> method;
    Line line;
    methods::ClientContext context;
  };

  void arrive(PeerId from, ExchangeId exchange, wire::Message answer) {
    if (from == 0 && hostile_ == Hostile::client) {
      const int how = script_.next() % 16;
      if (how == 1) {  // as another process
        clients_[0].method = entry_.make_client(*game_.method.options, game_.plan);
        arrived_.push_back({0, 0, talk::Joined{}});
      }
      if (how == 2) arrived_.push_back({0, 0, talk::Lost{"gone"}});
      if (how == 3) exchange += script_.next();
      if (how == 4) {
        arrived_.push_back({0, exchange, talk::Rejected{"no message"}});
        return;
      }
      if (how == 5) arrived_.push_back({0, exchange, answer});
      try {
        script_.change(answer);
      } catch (const WireError&) {
        arrived_.push_back({0, exchange, talk::Rejected{"no message"}});
        return;
      }
    }
    arrived_.push_back({from, exchange, std::move(answer)});
  }

  const Game& game_;
  const methods::MethodEntry& entry_;
  Script& script_;
  Hostile hostile_;
  std::vector<Client> clients_;
  std::deque<Envelope> arrived_;
  TimePoint now_{};
  bool lost_ = false;
  std::size_t messages_ = 0;
};

// What is committed can be kept and read back.
class Register final : public methods::RoundSink {
 public:
  Register(const Game& game, const std::vector<float>& weights) : game_(game), weights_(weights) {}
  bool commit(const methods::RoundReport& report, const methods::ServerMethod& method) override {
    if (!math::all_finite(weights_)) fault("weights that are not finite");
    const wire::Message state = method.save();
    const auto again =
        methods::method(game_.method.kind).make_server(*game_.method.options, game_.plan);
    again->load(state);
    if (again->save() != state) fault("a state that reads back as another");
    return report.round < game_.plan.rounds;
  }

 private:
  const Game& game_;
  const std::vector<float>& weights_;
};

struct Variant {
  const char* method;
  std::map<std::string, double> numbers = {};
  std::vector<std::pair<const char*, const char*>> texts = {};
  const char* optimizer = nullptr;
};

inline const std::vector<Variant>& variants() {
  static const std::vector<Variant> kVariants = {
      {"co2", {{"clip", 1}}, {{"gap", "measured"}}},
      {"co2"},
      {"dadao"},
      {"decomfl", {{"directions", 2}}},
      {"decomfl", {{"precondition", 1}, {"smoothing", 0}}},
      {"decoupled_diloco", {{"fragments", 2}, {"quorum", 1}}, {{"merge", "rda"}}},
      {"decoupled_diloco", {{"quorum", 2}}, {{"weights", "tokens"}}},
      {"diloco"},
      {"dpsgd"},
      {"econtrol"},
      {"econtrol", {}, {{"start", "first"}}},
      {"fedasync"},
      {"fedavg"},
      {"fedavg", {}, {}, "adam"},
      {"fedavg", {}, {}, "momentum"},
      {"fedbuff", {{"buffer", 2}}},
      {"fedkseed", {{"candidates", 8}, {"pro", 1}}},
      {"fedkseed", {{"candidates", 4}}, {{"upload", "sums"}, {"scalars", "float16"}}},
      {"fedprox"},
      {"ferret", {{"coordinates", 4}}},
      {"ferret", {{"coordinates", 4}, {"shared", 1}}, {{"scalars", "byte"}}},
      {"just_one_byte"},
      {"just_one_byte", {}, {{"scalars", "float32"}}},
      {"meerkat", {{"ratio", 0.5}}, {{"mask", "random"}}},
      {"scafcom"},
      {"scaffold"},
      {"scallion"},
      {"sfprompt"},
      {"streaming_diloco", {{"fragments", 2}}},
  };
  return kVariants;
}

inline double bowl(PeerId, std::span<const float> w, std::span<float> slope) {
  double loss = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    if (!slope.empty()) slope[j] = w[j];
    loss += 0.5 * double{w[j]} * w[j];
  }
  return loss;
}

inline Game game_of(const Variant& variant) {
  static const Problem toy(Town::kClients, 8, bowl);
  static const PartedProblem parted(Parted::Sizes{});
  Game game = variant.method == std::string("sfprompt")
                  ? parted.game(variant.method, variant.numbers)
                  : toy.game(variant.method, variant.numbers);
  for (const auto& [key, text] : variant.texts) choose(game.method, key, text);
  if (variant.optimizer != nullptr) {
    dynamic_cast<methods::AveragingOptions&>(*game.method.options).server_optimizer =
        config::make_plugin(aggregate::server_optimizer_kinds(), variant.optimizer);
  }
  methods::JobPlan& plan = game.plan;
  plan.clients = plan.per_round = Town::kClients;
  plan.quorum = 0.5;
  plan.attempts_max = 2;
  plan.wait_s = 1;
  plan.deadline_s = 10;
  plan.rounds = 3;
  if (plan.initial.empty()) plan.initial.assign(plan.layout.size(), 0.5F);
  plan.evaluation = {.on = true};
  plan.digests = true;
  for (PeerId id = 0; id < Town::kClients; ++id) {
    plan.dealt.push_back(std::ssize(game.shares[static_cast<std::size_t>(id)]));
  }
  return game;
}

// Input: a variant, then the script. Only that no client is left may end the run before its last
// round.
inline void play_town(ByteView input, Hostile hostile) {
  Script script(input);
  const Game game = game_of(variants()[script.next() % variants().size()]);
  Town town(game, script, hostile);
  const auto server =
      methods::method(game.method.kind).make_server(*game.method.options, game.plan);
  std::vector<float> weights = game.plan.initial;
  const auto aggregator = aggregate::aggregators().front().make(*game.aggregate.options);
  journal::Journal journal("", {"fuzz", "server", {}}, [] { return std::int64_t{0}; });
  Register sink(game, weights);
  methods::Stragglers stragglers(false);
  methods::ServerContext context{game.plan, weights,    *aggregator,    Rng(1), journal,
                                 sink,      stragglers, *game.learners, 1};
  boost::asio::io_context io;
  std::exception_ptr error;
  boost::asio::co_spawn(io, server->run(town, context),
                        [&error](std::exception_ptr failed) { error = failed; });
  io.run();
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const QuorumError&) {
  } catch (const ProtocolError& problem) {
    if (!town.closed()) fault(problem.what());
  }
}

}  // namespace fedctl::test
