// A method is two conversations over an Endpoint, one for the server, one for the client
// (docs/adding.md).
//
// Level 0, ServerMethod and ClientMethod: `run`, as long as the job. Level 1, RoundServer and
// RoundClient: plain functions called once a round, no co_await. A method depends on nothing but
// its endpoint, its context and its named random streams.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aggregate/aggregator.hpp"
#include "base/layout.hpp"
#include "base/limits.hpp"
#include "base/rng.hpp"
#include "config/fields.hpp"
#include "data/dataset.hpp"
#include "journal/journal.hpp"
#include "learn/pool.hpp"
#include "learn/train.hpp"
#include "methods/attempt.hpp"
#include "methods/stragglers.hpp"
#include "methods/vouching.hpp"
#include "talk/endpoint.hpp"
#include "talk/ledger.hpp"

namespace fedctl::methods {

using talk::Endpoint;
using talk::ExchangeId;
using talk::Message;
using talk::PeerId;
using talk::Replies;
using talk::SharedMessage;
using talk::Task;

// Scoring of the global weights by the clients, on their held-out examples (evaluate.on).
struct ClientEvaluation {
  bool on = false;
  std::int64_t every = 1, batch_size = 256;

  bool due(std::int64_t round, std::int64_t rounds) const {
    return on && (round % every == 0 || round == rounds);
  }
};

// Secure aggregation (privacy.secure_aggregation; docs/secure-aggregation.md).
struct SecurePlan {
  bool on = false;
  double clip = 1;                   // largest magnitude of a value in an update
  std::int64_t levels = 65535;       // that it is rounded to
  double ratio = 1;                  // share of the values that is sent
  bool rotate = false;               // the update first, the same in all clients of a round
  std::int64_t examples_max = 1000;  // more examples weigh no more
  std::size_t few = 0;               // neighbours of a client; 0: all others
  std::size_t few_threshold = 0;     // of these

  std::size_t neighbours_of(std::size_t clients) const;
  // How many of so many neighbours must answer before a mask falls.
  std::size_t threshold_of(std::size_t neighbours) const;
};

// The experiment as far as methods see it; the same on server and clients.
struct JobPlan {
  std::int64_t rounds = 1;
  std::int64_t clients = 1;    // ids 0 .. clients - 1
  std::int64_t per_round = 1;  // <= clients
  double quorum = 1;           // share of the cohort that must answer
  double deadline_s = 60;      // of one round; 0: from the clients' history
  double wait_s = 0;           // for clients to come; 0: as long as it takes
  std::int64_t attempts_max = kAttemptsMax;  // to get a quorum for one round, by one process
  learn::TrainOptions train;
  Layout layout;
  double step_ms = 0;                      // modelled cost of a training step, simulations only
  double slow_share = 0, slow_factor = 1;  // of the clients, and how much longer they take
  ClientEvaluation evaluation;
  // Of one update; the server rejects what is beyond.
  double norm_max = std::numeric_limits<double>::infinity();
  std::int64_t examples_max = limits::kExamplesMax;
  std::vector<std::int64_t> dealt = {};  // examples by client; empty: the server cannot know
  bool digests = false;                  // of every update, in the report
  SecurePlan secure = {};
  Rng common{0};  // stream ("common"): the same on all sides, for what seeds stand for
  std::vector<float> initial = {};  // weights of round 0

  std::int64_t quorum_count() const;       // ceil(quorum * per_round), at least 1; masked: 3
  std::int64_t examples_max_of(PeerId client) const;  // that it may claim
  double step_ms_of(PeerId client) const;             // the same client is slow in every round
  double deadline_max_s() const { return deadline_s > 0 ? deadline_s : limits::kDeadlineMaxS; }
};

// What a round came to, for the journal.
struct RoundReport {
  std::int64_t round = 0;
  std::int64_t clients = 0, replied = 0, lost = 0, rejected = 0;
  std::int64_t examples = 0;
  double train_loss = 0;   // weighted by examples
  double update_norm = 0;  // Euclidean, of the change of the global weights
  double wait_ms = 0, train_ms = 0, aggregate_ms = 0;
  double deadline_ms = 0;  // that was given to the clients, without an extension
  // Of the weights the round began with, on each client's held-out examples; by client id, of those
  // that reported.
  std::vector<learn::Scores> client_scores = {};
  std::optional<double> staleness = {};  // mean over the answers, versions; methods without rounds
  // Of methods without rounds: who answered, as they came, and from which version each began.
  std::vector<std::pair<PeerId, std::int64_t>> order = {};
  // Of the updates that were used, as the server read them; if the plan asks for digests.
  std::multimap<PeerId, std::string> digests = {};
  // What the clients sent each other, by their word; methods with neighbours.
  std::optional<talk::Traffic> peers = {};
};

class ServerMethod;

// Where a server method reports each round, at its boundary: evaluation, journal, checkpoint happen
// there.
class RoundSink {
 public:
  virtual ~RoundSink() = default;
  // False: stop here (interrupted, or a budget is spent).
  virtual bool commit(const RoundReport& report, const ServerMethod& method) = 0;
  // Too few have answered the open round.
  struct Shortage {
    RoundReport report;  // so far
    std::string why;
    std::int64_t attempt = 0;  // the next one
    bool ends = false;         // the run, until it is resumed; else it goes on with that attempt
  };
  // The round goes on with the answers that it has.
  virtual void lacking(const Shortage&) {}
  // It begins anew: a boundary like commit(), nothing that came before is needed again.
  virtual void retry(const Shortage&, const ServerMethod&) {}
  // Fewer clients are here than the next round needs, and it waits for more.
  virtual void waiting(std::int64_t /*present*/, std::int64_t /*needed*/) {}
};

struct ServerContext {
  const JobPlan& plan;
  std::vector<float>& weights;  // the global trainable parameters, plan.layout.size()
  aggregate::Aggregator& aggregator;
  Rng rng;  // stream ("server")
  journal::Journal& journal;
  RoundSink& sink;
  Stragglers& stragglers;
  learn::LearnerPool& learners;
  std::int64_t first_round = 1;
  std::int64_t first_attempt = 0;  // at it
  std::int64_t endings = 0;        // how often the run has ended in the midst of it, for a shortage
  Vouching vouching = {};
};

struct ClientContext {
  const JobPlan& plan;
  PeerId id;
  learn::LearnerPool& learners;
  const data::Dataset& data;
  std::span<const std::size_t> train;  // this client's examples
  Rng rng;                             // stream ("client", id)
  std::span<const std::size_t> holdout = {};
  Vouching vouching = {};
};

template <class Context>
class Role {
 public:
  virtual ~Role() = default;
  virtual Task<void> run(Endpoint& net, Context& ctx) = 0;
  // State beside the global weights, at a round boundary: optimiser, control variates. load()
  // throws WireError on a state that is not this method's.
  virtual Message save() const { return Message("state"); }
  virtual void load(const Message&) {}
};
class ServerMethod : public Role<ServerContext> {};
class ClientMethod : public Role<ClientContext> {
 public:
  // Whether all that matters of it is in save() once it has answered a question with one message:
  // a simulation then keeps no object of it until the next.
  virtual bool rests() const { return false; }
  // The last round whose masks it has helped to remove; kept like its state, beside it. 0: none.
  virtual std::int64_t unmasked() const { return 0; }
  virtual void has_unmasked(std::int64_t /*round*/) {}
};

// Level 1, server: sample, ask, inspect, merge, report; round after round.
class RoundServer : public ServerMethod {
 public:
  struct Merged {
    std::int64_t examples = 0;
    double train_loss = 0;
    std::optional<talk::Traffic> peers = {};  // from client to client; where they talk
  };
  // The message for one peer; the same pointer for all peers of a broadcast.
  virtual SharedMessage instruct(std::int64_t round, PeerId to, ServerContext& ctx) = 0;
  // As a reply comes. Throws an Error if it cannot be used; the round goes on without it. What it
  // lets through, merge() can use.
  virtual void inspect(PeerId from, const Message& reply, const ServerContext& ctx) = 0;
  // An update as merge() takes it, with zeros, for methods that only need the mean of the updates
  // weighted by examples; with secure aggregation merge() is given that one, under any client's id.
  virtual std::optional<Message> blank(const ServerContext&) const { return std::nullopt; }
  // Puts the questions and gathers the answers. For methods that go on talking with a client within
  // a round; what Answers says of peers holds at the end. `inspect` is called with every answer
  // that is to be merged.
  virtual Task<talk::Answers> converse(Endpoint& net, ServerContext& ctx, Attempt attempt,
                                       const talk::Requests& requests, TimePoint until,
                                       talk::Inspect inspect);
  // Folds the inspected replies (at least plan.quorum_count()) into ctx.weights.
  virtual Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) = 0;

  // Whether a round that too few have answered can go on with the answers that it has. Else it
  // begins anew.
  virtual bool keeps_answers() const { return true; }

  // A round that too few answer goes on, or begins anew, plan.attempts_max times, each time with
  // twice the time. Throws QuorumError then, when more time cannot help, and when clients are
  // waited for in vain.
  Task<void> run(Endpoint& net, ServerContext& ctx) final;

 private:
  // What became of one attempt.
  struct Tried {
    RoundReport report;
    std::string failed = {};  // why there is no result; "": there is one
    std::string hint = {};    // then
    bool in_vain = false;     // nor will there be
    bool spent = false;       // nor can it be asked again: the weights stay as they are
  };
  struct Asked;  // a round's questions
  Task<Tried> conduct(Endpoint& net, ServerContext& ctx, Attempt attempt);
  Task<void> ask_round(Endpoint& net, ServerContext& ctx, Asked& asked);
  SharedMessage question(PeerId to, ServerContext& ctx, Attempt attempt);
  void note_unusable(const Asked& asked);
  // Until the quorum has answered, or it is given up.
  Task<void> wait_for_quorum(Endpoint& net, ServerContext& ctx, Asked& asked, Tried& tried);
  // What the answers lack, if they do.
  void judge(Tried& tried, const talk::Answers& answers, const ServerContext& ctx);

  std::optional<TimePoint> closed_;  // the end of the round before
  // Of the open round: whose answers could not be used, by their own fault. They are not asked
  // again.
  std::map<PeerId, std::string> unusable_;
};

// The kind of a message that stands in for an answer: the client could not do its work; {text
// "reason"}.
inline constexpr const char* kFailed = "failed";
// The same of a client that lacks what the task builds on: the server starts it anew next time.
inline constexpr const char* kBehind = "behind";

// Level 1, client: answers each task. An answer that is not finite is sent as kFailed.
class RoundClient : public ClientMethod {
 public:
  // Overridden by those that talk on, or work ahead.
  bool rests() const override { return true; }
  std::int64_t unmasked() const final { return unmasked_; }
  void has_unmasked(std::int64_t round) final { unmasked_ = round; }
  struct Work {
    Message answer;
    std::int64_t steps = 0;  // training steps, for the modelled time
  };
  // One of these two is overridden; the second by clients that talk with others meanwhile. nullopt:
  // the run is over.
  virtual Work work(const Message& task, ClientContext& ctx);
  virtual Task<std::optional<Work>> work_with(Endpoint& net, const Message& task,
                                              ClientContext& ctx);
  // What a neighbour says while no task is worked on.
  virtual Task<void> heard(Endpoint& net, talk::Envelope envelope, ClientContext& ctx);
  // The global weights that the task stands for, or none. Called before work(), in the rounds that
  // ask clients for an evaluation.
  virtual std::vector<float> global(const Message& task, ClientContext& ctx);
  // For clients whose state follows what the server has of them.
  virtual bool follows() const { return false; }
  // An answer is about to be sent, and will be read like this. Not called for kFailed.
  virtual void answered(ExchangeId, const Message& /*as_read*/) {}
  // What can be done before the next task is here; its training steps. Called behind every answer,
  // but not after a restart: work() makes up for it.
  virtual std::int64_t ahead(ClientContext&) { return 0; }
  // The server did not use the answer of that exchange. Called before the next work(), perhaps for
  // an answer that was never given.
  virtual void unused(ExchangeId) {}
  Task<void> run(Endpoint& net, ClientContext& ctx) final;

 protected:
  // To be received behind the task that is worked on.
  void later(talk::Envelope envelope) { later_ = std::move(envelope); }

 private:
  std::optional<talk::Envelope> later_;
  std::int64_t unmasked_ = 0;
  std::optional<learn::Scores> score(const Message& task, ClientContext& ctx);
};

// The cohort of a round: the first `count` of a random order of all ids, as far as they are
// present; sorted. Depends on the round and on who is present, not on who came first.
std::vector<PeerId> sample_cohort(const JobPlan& plan, std::int64_t count, Rng rng,
                                  std::span<const PeerId> present);

struct MethodEntry {
  config::Kind kind;
  std::string needs;    // of the learner: loss | gradients | parts
  std::string payload;  // linear: updates add | needs_each_update | scalars | activations
  int rung = 2;         // of the ladder in docs/adding.md
  bool sums = false;    // its server has blank()
  bool alike = true;    // false: messages differ in size from round to round
  bool rounds = true;   // false: answers come whenever they do, also behind a boundary
  // What it asks of other keys:
  bool plain_sgd = false;     // of train: SGD without momentum, decay and clipping
  bool mean_only = false;     // of aggregate: mean, it combines nothing
  bool whole_cohort = false;  // of clients: all of them in every round
  bool fixed_steps = false;   // of train: steps, not epochs
  bool own_code = false;      // of codec: none, its numbers have a code of their own
  bool own_feedback = false;  // of codec: no error feedback on the uplink, it has its own
  std::string up_codec = "";  // "none", "unbiased": of codec.up
  // Whom a client talks to beside the server; none: nobody.
  std::function<std::vector<PeerId>(const config::Options&, std::int64_t clients, PeerId client)>
      neighbours = {};
  // Throws ConfigError on options that do not go together.
  std::function<void(const config::Options&)> check = {};
  std::function<std::unique_ptr<ServerMethod>(const config::Options&, const JobPlan&)> make_server;
  std::function<std::unique_ptr<ClientMethod>(const config::Options&, const JobPlan&)> make_client;
};
const std::vector<MethodEntry>& methods();
const config::Kinds& method_kinds();
const MethodEntry& method(std::string_view kind);  // throws ConfigError

}  // namespace fedctl::methods
