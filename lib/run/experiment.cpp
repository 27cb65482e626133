#include "run/experiment.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "base/limits.hpp"
#include "codec/codec.hpp"
#include "config/detail/key_collector.hpp"
#include "data/registry.hpp"

namespace fedctl::run {
namespace {

using config::Fields;

// The dataset kinds, each with `partition` and `holdout` beside its own keys.
const config::Kinds& data_kinds() {
  static const config::Kinds kKinds = [] {
    config::Kinds kinds = data::dataset_kinds();
    for (config::Kind& kind : kinds) {
      kind.make_options = [make = kind.make_options] {
        return std::make_unique<DataOptions>(make());
      };
    }
    return kinds;
  }();
  return kKinds;
}

std::vector<std::string> metric_names() {
  std::vector<std::string> names;
  for (const learn::Metric& metric : learn::metrics()) names.push_back(metric.name);
  names.push_back(kExactMatch);
  return names;
}

std::string list_of(const std::vector<std::string>& words, const std::string& between) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : between) + word;
  return list;
}

void check_evaluation(const Experiment& experiment, const Places& places) {
  const EvaluateOptions& evaluate = experiment.evaluate;
  const std::vector<std::string> known = metric_names();
  const auto holds = [](const std::vector<std::string>& words, const std::string& word) {
    return std::ranges::find(words, word) != words.end();
  };
  for (const std::string& name : evaluate.metrics) {
    if (holds(known, name)) continue;
    const std::string near = config::nearest(name, known);
    throw ConfigError(
        place_of(places, "evaluate.metrics") + "evaluate.metrics names \"" + name +
            "\", must be one of " + list_of(known, ", "),
        near.empty() ? "accuracy and loss are always there" : "did you mean " + near + '?');
  }
  if (holds(known, evaluate.best) && !holds(evaluate.metrics, evaluate.best)) {
    throw ConfigError(place_of(places, "evaluate.best") + "evaluate.best is " + evaluate.best +
                          ", but evaluate.metrics does not name it",
                      "evaluate: {metrics: [" + evaluate.best + "], best: " + evaluate.best + '}');
  }
  if (evaluate.on == "clients" && !evaluate.metrics.empty()) {
    throw ConfigError(place_of(places, "evaluate.on") +
                          "evaluate.on is clients, but evaluate.metrics asks for what only the "
                          "server computes",
                      "evaluate: {on: both}");
  }
  if (evaluate.on != "server" && experiment.data.as<DataOptions>().holdout == 0) {
    throw ConfigError(place_of(places, "evaluate.on") + "evaluate.on is " + evaluate.on +
                          ", but data.holdout is 0: clients keep no examples for it",
                      "set data.holdout to 0.1, say");
  }
}

using Refuse =
    std::function<void(const std::string& key, const std::string& what, const std::string& hint)>;

// Methods that only measure losses: what they would silently leave out.
void check_without_gradients(const Experiment& experiment, const Refuse& refuse) {
  const learn::TrainOptions& train = experiment.train;
  const std::string hint = "it measures losses and has no gradient; leave the key out";
  if (!learn::is_plain_sgd(train)) {
    refuse("train.optimizer", "is not plain SGD",
           "train: {optimizer: {kind: sgd, momentum: 0, weight_decay: 0}}, and no train.clip");
  }
  if (train.schedule.kind != "constant") {
    refuse("train.schedule", "is " + train.schedule.kind, "its steps are replayed: constant");
  }
  if (train.accumulate > 1) refuse("train.accumulate", "is not 1", "raise train.batch_size");
  if (train.label_smoothing > 0) refuse("train.label_smoothing", "is set", hint);
}

// Methods that run a model in parts, on two sides.
void check_parts(const Experiment& experiment, const Refuse& refuse) {
  const learn::TrainOptions& train = experiment.train;
  if (experiment.adapter.kind != "prompt") {
    refuse("adapter.kind", "is " + experiment.adapter.kind,
           "what the server runs of the model is frozen: adapter: {kind: prompt}");
  }
  if (train.accumulate > 1) refuse("train.accumulate", "is not 1", "raise train.batch_size");
  if (train.label_smoothing > 0) refuse("train.label_smoothing", "is set", "leave it out");
  if (train.schedule.kind != "constant") {
    refuse("train.schedule", "is " + train.schedule.kind, "leave it out");
  }
  if (experiment.clients.deadline_s == 0) {
    refuse("clients.deadline_s", "is auto", "a client answers a round in pieces: give seconds");
  }
  if (experiment.evaluate.on != "server") {
    refuse("evaluate.on", "is " + experiment.evaluate.on,
           "a client has only a part of the model: evaluate: {on: server}");
  }
}

void check_secure(const Experiment& experiment, const methods::MethodEntry& method,
                  const Refuse& refuse) {
  const std::string key = "privacy.secure_aggregation.kind";
  const std::string is = "is " + experiment.privacy.secure_aggregation.kind;
  if (!method.sums) {
    refuse(key, is, "this method's server needs more than the sum of the updates");
  }
  const auto with = [&](const std::string& other, const std::string& hint) {
    refuse(key, is + " and " + other, hint);
  };
  if (experiment.aggregate.kind != "mean") {
    with("aggregate.kind is " + experiment.aggregate.kind, "only the mean is a sum");
  }
  if (!experiment.codec.up.empty()) {
    with("codec.up is not empty", "masked words have a code of their own: clip and levels");
  }
  if (experiment.evaluate.on != "server") {
    with("evaluate.on is " + experiment.evaluate.on, "clients' scores would be told one by one");
  }
  if (experiment.server.max_update_norm > 0) {
    with("server.max_update_norm is set", "no update is seen; clip bounds every value");
  }
  if (experiment.cohort() < 3) {
    with("clients.per_round is " + std::to_string(experiment.cohort()),
         "fewer than three clients cannot hide among each other");
  }
  const double most = static_cast<double>(experiment.privacy.secure_aggregation.levels) *
                      static_cast<double>(experiment.cohort());
  if (most >= 0x1p32) {
    with("levels times the cohort is " + std::to_string(most) + ", 2^32 at most", "lower levels");
  }
}

// What the method asks of other keys.
void check_method(const Experiment& experiment, const Places& places) {
  const std::string& kind = experiment.method.kind;
  const methods::MethodEntry& method = methods::method(kind);
  const CodecOptions& chains = experiment.codec;
  const Refuse refuse = [&](const std::string& key, const std::string& what,
                            const std::string& hint) {
    throw ConfigError(place_of(places, key) + key + ' ' + what + ", but method.kind is " + kind,
                      hint);
  };
  if (method.plain_sgd && !learn::is_plain_sgd(experiment.train)) {
    refuse("train.optimizer", "is not plain SGD",
           "train: {optimizer: {kind: sgd, momentum: 0, weight_decay: 0}}, and no train.clip: its "
           "control variates are means of gradients");
  }
  if (method.needs == "loss") check_without_gradients(experiment, refuse);
  if (method.needs == "parts") check_parts(experiment, refuse);
  if (method.own_code) {
    const std::string own = "its numbers have a code of their own: method.scalars";
    if (!chains.up.empty()) refuse("codec.up", "is not empty", own);
    if (!chains.down.empty()) refuse("codec.down", "is not empty", own);
  }
  if (experiment.privacy.secure_aggregation.kind != "none")
    check_secure(experiment, method, refuse);
  if (method.mean_only && experiment.aggregate.kind != "mean") {
    refuse("aggregate.kind", "is " + experiment.aggregate.kind,
           "it keeps every update apart and combines none; leave aggregate out");
  }
  if (method.whole_cohort && experiment.cohort() != experiment.clients.count) {
    refuse("clients.per_round", "is " + std::to_string(experiment.clients.per_round),
           "its clients train on between rounds: leave per_round out");
  }
  if (method.fixed_steps && experiment.train.steps == 0) {
    refuse("train.steps", "is 0", "all clients of a round take as many steps: train: {steps: 1}");
  }
  if (method.check) {
    try {
      method.check(*experiment.method.options);
    } catch (const ConfigError& error) {
      throw ConfigError(place_of(places, "method") + error.what(), error.hint());
    }
  }
  if (method.own_feedback && chains.error_feedback != "none") {
    refuse("codec.error_feedback", "is " + chains.error_feedback,
           method.neighbours
               ? "a message to neighbours is coded by itself; leave error_feedback out"
               : "the method remembers itself what was lost; leave error_feedback out");
  }
  if (method.up_codec == "none" && !chains.up.empty()) {
    refuse("codec.up", "is not empty", "scallion takes an unbiased codec, scafcom any");
  }
  if (method.up_codec == "unbiased" && !chains.up.empty() &&
      !codec::promises_of(chains.up).unbiased) {
    refuse("codec.up", "is not right on average",
           "eden, drive, qsgd and randk are; scafcom takes any codec");
  }
}

// Faults that show only when two keys are seen together.
void check_together(const Experiment& experiment, const Places& places) {
  const ClientsOptions& clients = experiment.clients;
  check_evaluation(experiment, places);
  check_codec(experiment.codec, places);
  check_method(experiment, places);
  if (clients.per_round > clients.count) {
    throw ConfigError(place_of(places, "clients.per_round") + "clients.per_round is " +
                          std::to_string(clients.per_round) + ", but clients.count is " +
                          std::to_string(clients.count),
                      "per_round may be at most count; leave it out to ask all of them");
  }
  try {
    learn::check_fit(experiment.model, experiment.adapter);
  } catch (const ConfigError& error) {
    throw ConfigError(place_of(places, "adapter") + error.what(), error.hint());
  }
  const auto& check_data = data::dataset(experiment.data.kind).check;
  if (check_data) {
    try {
      check_data(*experiment.data.as<DataOptions>().dataset);
    } catch (const ConfigError& error) {
      throw ConfigError(place_of(places, "data") + error.what(), error.hint());
    }
  }
}

}  // namespace

std::string place_of(const Places& places, const std::string& key) {
  const auto found = places.find(key);
  return found == places.end() ? "" : found->second + ": ";
}

DataOptions::DataOptions(std::unique_ptr<config::Options> dataset_)
    : dataset(std::move(dataset_)),
      partition(config::make_plugin(data::partitioner_kinds(), "iid")) {}

void DataOptions::fields(Fields& fields) {
  dataset->fields(fields);
  fields.plugin("partition", partition, data::partitioner_kinds(),
                "how training examples are dealt out to clients");
  fields.real("holdout", holdout, {.min = 0, .below = 1},
              "share of each client's examples kept for testing");
}

void ClientsOptions::fields(Fields& fields) {
  fields.integer("count", count, {1, limits::kClientsMax}, "clients in all; ids 0 to count - 1");
  fields.integer("per_round", per_round, {0, limits::kClientsMax},
                 "cohort of a round; 0: all clients");
  fields.real("quorum", quorum, {.above = 0, .max = 1},
              "share of the cohort that must answer before the deadline");
  fields.real("deadline_s", deadline_s, {.above = 0, .max = 1e6, .zero = "auto"},
              "longest duration of a round, s; auto: as the clients' own history says");
  fields.real("wait_s", wait_s, {.min = 0, .max = 1e9},
              "how long the server waits for a quorum of clients, s; 0: as long as it takes");
  fields.text("on_quorum", on_quorum, {.one_of = {"wait", "end"}},
              "a round that too few answer is asked again when enough are there, or ends the run");
  fields.text("sampler", sampler, {.one_of = {"uniform"}}, "how the cohort is drawn");
}

void NetworkOptions::fields(Fields& fields) {
  fields.real("latency_ms", link.latency_ms, {.min = 0, .max = 1e7}, "one way, ms");
  fields.real("up_mbit", link.up_mbit, {.min = 0}, "client to server, Mbit/s; 0: unlimited");
  fields.real("down_mbit", link.down_mbit, {.min = 0}, "server to client, Mbit/s; 0: unlimited");
  fields.real("loss", link.loss, {.min = 0, .max = 0.99}, "chance that a frame is sent again");
  fields.real("dropout", link.dropout, {.min = 0, .max = 1},
              "chance that a client is lost when it is asked");
  fields.real("step_ms", step_ms, {.min = 0}, "modelled time of one training step, ms");
  fields.real("slow_share", slow_share, {.min = 0, .max = 1}, "share of clients that are slow");
  fields.real("slow_factor", slow_factor, {.min = 1}, "how much longer their steps take");
}

void EvaluateOptions::fields(Fields& fields) {
  fields.integer("every", every, {1, 1'000'000},
                 "rounds between evaluations; the last is always one");
  fields.integer("batch_size", batch_size, {1, 65536}, "examples evaluated at a time");
  fields.text("on", on, {.one_of = {"server", "clients", "both"}},
              "who evaluates: the server on its test set, clients on their held-out examples");
  fields.texts("metrics", metrics, "beside accuracy and loss: " + list_of(metric_names(), ", "));
  fields.integer("generate_max", generate_max, {1, 1 << 20},
                 "longest answer that exact_match lets the model write, tokens");
  fields.integer("generate_examples", generate_examples, {0, 1'000'000'000},
                 "test examples that exact_match takes, the first; 0: all");
  std::vector<std::string> bests = {"auto", "accuracy", "loss"};
  std::ranges::copy(metric_names(), std::back_inserter(bests));
  fields.text("best", best, {.one_of = bests},
              "what adapter/best and patience go by; auto: accuracy, or loss for language");
  fields.integer("patience", patience, {0, 1'000'000},
                 "evaluations without improvement that end the run; 0: never");
  fields.real("min_delta", min_delta, {.min = 0}, "what patience counts as an improvement");
}

void TlsOptions::fields(Fields& fields) {
  const config::Text path{.kind = "a path"};
  fields.text("certificate", files.certificate, path, "own certificate, PEM");
  fields.text("key", files.key, path, "its private key, readable by its owner alone");
  fields.text("authority", files.authority, path, "whose certificates are accepted, PEM");
  fields.text("revoked", files.revoked, path, "revocation lists, PEM; read again when it changes");
}

void ServerOptions::fields(Fields& fields) {
  fields.text("listen", listen, {.kind = "HOST:PORT"},
              "where the server listens; port 0: a free one");
  fields.section("tls", tls, "mutual TLS 1.3: files that fedctl ca writes");
  fields.real("idle_s", idle_s, {.min = 0.1, .max = limits::kIdleMaxS},
              "silence after which a peer counts as dead, and how long the round waits for one "
              "that broke off, s");
  fields.text("durability", durability, {.one_of = {"always", "round"}},
              "when answers are on the disk: before they count, or at the end of the round");
  fields.real(
      "max_update_norm", max_update_norm, {.min = 0},
      "updates with a larger Euclidean norm are rejected; 0: those with a value beyond 1e15");
  fields.integer(
      "max_examples", max_examples, {0, limits::kExamplesMax},
      "updates that claim more examples are rejected; 0: than the client was dealt, or, where "
      "sites may have files of their own, than the server has");
}

void SecureOptions::fields(Fields& fields) {
  fields.text("kind", kind, {.one_of = {"none", "secagg", "secagg_plus"}},
              "the server learns sums of updates alone: every client hides among all others, or "
              "among a few");
  fields.real("clip", clip, {.above = 0},
              "largest magnitude of a value in an update, or in the rotated one");
  fields.boolean("rotate", rotate,
                 "a random rotation of the update first, common to a round (256 values or more): a "
                 "clip of five norms over the root of their number then cuts hardly any value");
  fields.integer("levels", levels, {1, 4294967295}, "steps between -clip and clip");
  fields.real(
      "ratio", ratio, {.above = 0, .max = 1},
      "share of the values that is sent: other ones in each round, the same of all clients");
  fields.integer("examples_max", examples_max, {1, limits::kExamplesMax},
                 "clients with more examples weigh no more");
  fields.real("corrupt", corrupt, {.min = 0, .below = 0.5},
              "secagg_plus: share of the cohort that may tell the server what it knows");
  fields.real("dropout", dropout, {.min = 0, .below = 0.5},
              "secagg_plus: share of the cohort that may be lost");
}

void PrivacyOptions::fields(Fields& fields) {
  fields.section("secure_aggregation", secure_aggregation, "masked sums");
}

void LogOptions::fields(Fields& fields) {
  fields.boolean("clients", clients, "one journal line per client and round too");
}

Experiment::Experiment()
    : model(config::make_plugin(learn::family_kinds(), "vit")),
      adapter(config::make_plugin(learn::adapter_kinds(), "lora")),
      data(config::make_plugin(data_kinds(), "glyphs")),
      method(config::make_plugin(methods::method_kinds(), "fedavg")),
      aggregate(config::make_plugin(aggregate::aggregator_kinds(), "mean")) {}

void Experiment::fields(Fields& fields) {
  fields.text("name", name, {.kind = "[a-z0-9-]", .required = true}, "names the run directory");
  fields.integer("seed", seed, {0, std::numeric_limits<std::int64_t>::max()},
                 "root of every random stream");
  fields.integer("rounds", rounds, {1, methods::kRoundsMax}, "rounds of training");
  fields.plugin("model", model, learn::family_kinds(),
                "the model; its weights stay frozen unless adapter is full");
  fields.plugin("adapter", adapter, learn::adapter_kinds(), "what is trained and sent");
  fields.plugin("data", data, data_kinds(), "examples and how clients share them");
  fields.section("clients", clients, "who takes part");
  fields.section("train", train, "local training");
  fields.plugin("method", method, methods::method_kinds(), "the federated method");
  fields.plugin("aggregate", aggregate, aggregate::aggregator_kinds(), "how updates become one");
  fields.section("codec", codec, "compression");
  fields.section("privacy", privacy, "what the server may learn");
  fields.section("budget", budget, "what the run may cost: it ends before it would exceed it");
  fields.section("network", network, "simulated links; simulate only");
  fields.section("evaluate", evaluate, "testing of the global model");
  fields.section("server", server, "the server's own settings");
  fields.section("log", log, "journal detail");
}

std::int64_t Experiment::cohort() const {
  return clients.per_round == 0 ? clients.count : clients.per_round;
}

Experiment read_experiment(const config::Source& source) {
  Experiment experiment;
  config::read(source, experiment);
  const Places places = config::places(source);
  const std::string& name = experiment.name;
  if (name.empty() || name.size() > 64 ||
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) {
    throw ConfigError(place_of(places, "name") + "name is \"" + name +
                          "\", must be 1 to 64 of the characters a-z, 0-9 and -",
                      "it names the run directory runs/<name>");
  }
  complete_codec(experiment, places);
  check_together(experiment, places);
  return experiment;
}

std::string plan_text(Experiment& experiment) {
  const ServerOptions server = std::exchange(experiment.server, {});
  std::string text = config::write(experiment);
  experiment.server = server;
  return text;
}

bool sites_may_have_data(const Experiment& experiment) {
  return config::keys_of(*experiment.data.as<DataOptions>().dataset).contains("path");
}

Experiment agreed(const Experiment& experiment) {
  Experiment agreed = experiment;
  const ClientsOptions usual;
  agreed.clients.quorum = usual.quorum;
  agreed.clients.deadline_s = usual.deadline_s;
  agreed.clients.wait_s = usual.wait_s;
  agreed.clients.on_quorum = usual.on_quorum;
  agreed.server = {};
  agreed.log = {};
  agreed.evaluate = {};
  agreed.budget = {};
  return agreed;
}

std::string plan_digest(const Experiment& experiment) {
  Experiment shared = agreed(experiment);
  return digest_of(as_bytes_of(config::write(shared)));
}

std::string differences(const Experiment& before, const Experiment& now) {
  Experiment old_part = agreed(before), new_part = agreed(now);
  const std::map<std::string, std::string> was = config::values(old_part);
  std::map<std::string, std::string> is = config::values(new_part);
  std::string text;
  const auto add = [&text](const std::string& key, const std::string& from, const std::string& to) {
    text += (text.empty() ? "" : "; ") + key + " was " + from + " and is " + to;
  };
  for (const auto& [key, value] : was) {
    const auto found = is.extract(key);
    const std::string other = found.empty() ? "not there" : found.mapped();
    if (other != value) add(key, value, other);
  }
  for (const auto& [key, value] : is) add(key, "not there", value);
  return text;
}

}  // namespace fedctl::run
