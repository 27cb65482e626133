// Experiment: the YAML file as a struct (contract.md, section 2; docs/experiment.md). Every key,
// its default, range and meaning stand in experiment.cpp and in the plugins' own files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "learn/spec.hpp"
#include "learn/train.hpp"
#include "methods/method.hpp"
#include "net/tls.hpp"
#include "run/budget.hpp"
#include "talk/mesh.hpp"

namespace fedctl::run {

// `data`: a dataset's own options, and beside them how its examples are dealt out.
struct DataOptions final : config::Options {
  explicit DataOptions(std::unique_ptr<config::Options> dataset_);
  std::unique_ptr<config::Options> dataset;
  config::Plugin partition;
  double holdout = 0.1;
  void fields(config::Fields& fields) override;
};
struct ClientsOptions final : config::Options {
  std::int64_t count = 8;
  std::int64_t per_round = 0;  // 0: all
  double quorum = 0.8;
  double deadline_s = 60;  // 0: auto
  double wait_s = 0;       // 0: as long as it takes
  std::string on_quorum = "wait";
  std::string sampler = "uniform";
  void fields(config::Fields& fields) override;
};
// Members in lib/run/codec_options.cpp.
struct CodecOptions final : config::Options {
  std::vector<config::Plugin> up, down;
  std::string error_feedback = "none";  // of the uplink
  std::string error_feedback_down = "none";
  std::string profile = "none";                 // values for the keys that were not written
  double bits_per_parameter = 0;                // of every "auto" without its own; 0: its default
  bool spread_up = false, spread_down = false;  // budget.spread decides the bits of this chain
  void fields(config::Fields& fields) override;
};
struct NetworkOptions final : config::Options {
  talk::Link link;
  double step_ms = 0;
  double slow_share = 0, slow_factor = 10;
  void fields(config::Fields& fields) override;
};
// The metric of generated answers; the others are learn::metrics().
inline constexpr const char* kExactMatch = "exact_match";
struct EvaluateOptions final : config::Options {
  std::int64_t every = 1;
  std::int64_t batch_size = 256;
  std::string on = "server";
  std::vector<std::string> metrics;                          // beside accuracy and loss
  std::int64_t generate_max = 128, generate_examples = 100;  // of exact_match
  std::string best = "auto";                                 // what adapter/best and patience go by
  std::int64_t patience = 0;  // evaluations without improvement that end the run; 0: any
  double min_delta = 0;       // what counts as improvement for patience
  void fields(config::Fields& fields) override;
};
// The files of one side of mutual TLS; none: plaintext.
struct TlsOptions final : config::Options {
  net::TlsFiles files;
  void fields(config::Fields& fields) override;
};
struct ServerOptions final : config::Options {
  std::string listen = "127.0.0.1:7143";
  TlsOptions tls;
  double idle_s = 30;
  std::string durability = "always";
  double max_update_norm = 0;
  std::int64_t max_examples = 0;
  void fields(config::Fields& fields) override;
};
struct LogOptions final : config::Options {
  bool clients = false;
  void fields(config::Fields& fields) override;
};
struct SecureOptions final : config::Options {
  std::string kind = "none";
  double clip = 1, ratio = 1, corrupt = 0.05, dropout = 0.1;
  bool rotate = false;
  std::int64_t levels = 65535, examples_max = 1000;
  void fields(config::Fields& fields) override;
};
struct PrivacyOptions final : config::Options {
  SecureOptions secure_aggregation;
  void fields(config::Fields& fields) override;
};

struct Experiment final : config::Options {
  std::string name;
  std::int64_t seed = 1;
  std::int64_t rounds = 20;
  config::Plugin model, adapter, data;
  ClientsOptions clients;
  learn::TrainOptions train;
  config::Plugin method, aggregate;
  CodecOptions codec;
  PrivacyOptions privacy;
  BudgetOptions budget;
  NetworkOptions network;
  EvaluateOptions evaluate;
  ServerOptions server;
  LogOptions log;

  Experiment();
  void fields(config::Fields& fields) override;

  std::int64_t cohort() const;  // per_round, with 0 resolved
};

// Where every key stood that was written (config::places).
using Places = std::map<std::string, std::string>;
// "file:line:column: ", or "" if the key was not written.
std::string place_of(const Places& places, const std::string& key);

// Sets what codec.profile and codec.bits_per_parameter stand for.
void complete_codec(Experiment& experiment, const Places& places);
// Throws ConfigError on chains and error feedback that do not go together.
void check_codec(const CodecOptions& codec, const Places& places);
// What is allowed, but seldom meant: one line each, naming the keys. `parameters`: of an update, 0
// if that is not known yet.
std::vector<std::string> warnings(const Experiment& experiment, std::size_t parameters = 0);
// Whether the data are of files, in whose place a site may have its own.
bool sites_may_have_data(const Experiment& experiment);

// Reads and checks everything that can be known without opening data or model. Throws ConfigError.
Experiment read_experiment(const config::Source& source);
// What the parties must agree on, and a run that is resumed with itself: without the keys that
// only one side or one attempt concerns (server, log, evaluate, budget; of clients quorum,
// deadline_s, wait_s, on_quorum).
Experiment agreed(const Experiment& experiment);
std::string plan_digest(const Experiment& experiment);
// Where these parts of two experiments differ, key by key; "" if they do not.
std::string differences(const Experiment& before, const Experiment& now);
// What the clients are sent: the effective file without the server's own settings.
std::string plan_text(Experiment& experiment);

}  // namespace fedctl::run
