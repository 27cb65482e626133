// Options that several sub-commands share: how they are declared and read.
#pragma once

#include <boost/program_options.hpp>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "run/commands.hpp"

extern char** environ;

namespace fedctl::cli {

namespace po = boost::program_options;
using Text = std::string;

template <class T>
T get(const po::variables_map& values, const char* name, T otherwise) {
  return values.count(name) > 0 ? values[name].as<T>() : otherwise;
}
inline bool flag(const po::variables_map& values, const char* name) {
  return values.count(name) > 0;
}

inline void output_options(po::options_description& options) {
  options.add_options()(
      "format", po::value<Text>()->value_name("auto|text|json"),
      "standard output: a table, or one JSON line a round (default: table on a terminal)")(
      "quiet", "no progress, no messages")("verbose", "more messages");
}
inline void experiment_options(po::options_description& options) {
  options.add_options()("config", po::value<Text>()->value_name("FILE"),
                        "the experiment, YAML (required)")(
      "set", po::value<std::vector<Text>>()->value_name("KEY.PATH=VALUE"),
      "override a key, after the file; repeatable");
}
inline void run_options(po::options_description& options) {
  experiment_options(options);
  options.add_options()("run-dir", po::value<Text>()->value_name("DIR"),
                        "run directory (default: runs/<name>)")(
      "resume", "go on with the unfinished run in the run directory")(
      "fresh", "discard the run in the run directory")("threads",
                                                       po::value<std::int64_t>()->value_name("N"),
                                                       "worker threads (default: one a core)");
  output_options(options);
}

inline void plan_options(po::options_description& options) {
  experiment_options(options);
  options.add_options()("up-mbit", po::value<double>()->value_name("N"),
                        "a client's link, client to server, Mbit/s (default: 20)")(
      "down-mbit", po::value<double>()->value_name("N"),
      "the same, server to client (default: 100)")(
      "latency-ms", po::value<double>()->value_name("N"), "one way, ms (default: 30)")(
      "hosts", po::value<std::int64_t>()->value_name("N"),
      "also serve it here, over loopback, for some rounds, to clients in N processes")(
      "svg", po::value<Text>()->value_name("FILE"), "draw who has which labels")(
      "write-partition", po::value<Text>()->value_name("FILE"),
      "write the deal for partition: {kind: file}; *.json or a client a line")(
      "threads", po::value<std::int64_t>()->value_name("N"),
      "worker threads (default: one a core)");
  output_options(options);
}

inline run::OutputOptions output_of(const po::variables_map& values) {
  const Text format = get<Text>(values, "format", "auto");
  run::OutputOptions output;
  if (format == "text") {
    output.format = run::Format::text;
  } else if (format == "json") {
    output.format = run::Format::json;
  } else if (format != "auto") {
    throw ConfigError("--format is \"" + format + "\", must be auto, text or json");
  }
  output.quiet = flag(values, "quiet");
  output.verbose = flag(values, "verbose");
  return output;
}

inline config::Source source_of(const po::variables_map& values) {
  if (!flag(values, "config"))
    throw ConfigError("--config FILE is missing", "fedctl help shows examples");
  config::Source source = config::read_source(values["config"].as<Text>());
  source.overrides = config::environment_overrides(environ);
  for (const Text& text : get<std::vector<Text>>(values, "set", {})) {
    source.overrides.push_back(config::parse_override(text));
  }
  return source;
}

inline run::RunOptions run_of(const po::variables_map& values) {
  run::RunOptions options;
  options.source = source_of(values);
  if (flag(values, "listen")) {
    options.source.overrides.emplace_back("server.listen", values["listen"].as<Text>());
  }
  options.run_dir = get<Text>(values, "run-dir", "");
  if (flag(values, "resume") && flag(values, "fresh")) {
    throw ConfigError("--resume and --fresh exclude each other");
  }
  if (flag(values, "resume")) options.start = run::Start::resume;
  if (flag(values, "fresh")) options.start = run::Start::discard;
  options.threads = get<std::int64_t>(values, "threads", 0);
  options.port_file = get<Text>(values, "port-file", "");
  options.insecure = flag(values, "insecure");
  options.version = FEDCTL_VERSION;
  options.save_updates = get<Text>(values, "save-updates", "");
  options.output = output_of(values);
  return options;
}

inline run::PlanOptions plan_of(const po::variables_map& values) {
  run::PlanOptions options;
  options.version = FEDCTL_VERSION;
  options.source = source_of(values);
  options.up_mbit = get<double>(values, "up-mbit", options.up_mbit);
  options.down_mbit = get<double>(values, "down-mbit", options.down_mbit);
  options.latency_ms = get<double>(values, "latency-ms", options.latency_ms);
  options.hosts = get<std::int64_t>(values, "hosts", 0);
  if (flag(values, "hosts") && options.hosts < 1) throw ConfigError("--hosts must be at least 1");
  options.write_partition = get<Text>(values, "write-partition", "");
  options.svg = get<Text>(values, "svg", "");
  options.threads = get<std::int64_t>(values, "threads", 0);
  options.output = output_of(values);
  return options;
}

inline void codec_options(po::options_description& options) {
  options.add_options()("chain", po::value<Text>()->value_name("YAML"),
                        "the codecs, as under codec.up (required)")(
      "in", po::value<Text>()->value_name("FILE"), "safetensors; its float32 tensors (required)")(
      "out", po::value<Text>()->value_name("FILE"), "write here what a receiver would read")(
      "seed", po::value<std::int64_t>()->value_name("N"), "of random rounding (default: 0)")(
      "together", "one message whose blocks are the tensors, as an update is sent, not one each");
  output_options(options);
}
inline run::CodecFileOptions codec_of(const po::variables_map& values) {
  run::CodecFileOptions options;
  options.chain = get<Text>(values, "chain", "");
  options.in = get<Text>(values, "in", "");
  if (options.chain.empty() || options.in.empty()) {
    throw ConfigError("codec: --chain YAML and --in FILE are needed",
                      "fedctl codec --chain auto --in update.safetensors");
  }
  options.out = get<Text>(values, "out", "");
  options.seed = get<std::int64_t>(values, "seed", 0);
  options.together = flag(values, "together");
  options.output = output_of(values);
  return options;
}

inline void sweep_options(po::options_description& options) {
  options.add_options()("file", po::value<Text>()->value_name("FILE"), "the sweep, YAML")(
      "run-dir", po::value<Text>()->value_name("DIR"), "folder (default: runs/<name>)")(
      "executor", po::value<Text>()->value_name("local|slurm"), "instead of the file's")(
      "dry-run", "print the commands of the runs that are not done, and end")(
      "table", "only make the table of the runs that are done")(
      "threads", po::value<std::int64_t>()->value_name("N"),
      "worker threads of a run (default: its share of the cores)")(
      "cell", po::value<std::int64_t>()->value_name("N"),
      "compute run N alone, from 0: what a task of an array does")(
      "digest", po::value<Text>()->value_name("HEX"), "with --cell: of the sweep that is meant");
  output_options(options);
}

inline run::SweepCommand sweep_of(const po::variables_map& values) {
  run::SweepCommand command;
  const Text file = get<Text>(values, "file", "");
  if (file.empty()) throw ConfigError("sweep: the file is missing", "fedctl sweep sweep.yaml");
  command.source = config::read_source(file);
  command.environment = config::environment_overrides(environ);
  command.folder = get<Text>(values, "run-dir", "");
  command.executor = get<Text>(values, "executor", "");
  command.dry_run = flag(values, "dry-run");
  command.table_only = flag(values, "table");
  command.run = get<std::int64_t>(values, "cell", -1);
  if (flag(values, "cell") && command.run < 0) throw ConfigError("--cell must be at least 0");
  command.digest = get<Text>(values, "digest", "");
  command.threads = get<std::int64_t>(values, "threads", 0);
  if (command.threads < 0) throw ConfigError("--threads must be at least 0");
  command.output = output_of(values);
  return command;
}

inline void ca_options(po::options_description& options) {
  options.add_options()("action", po::value<Text>()->value_name("ACTION"),
                        "init, issue, revoke or rotate")(
      "dir", po::value<Text>()->value_name("DIR"), "of the authority (default: ca)")(
      "server", po::value<std::vector<Text>>()->value_name("HOST"),
      "issue: for a server under this name or address; repeatable")(
      "id", po::value<Text>()->value_name("N"), "issue, revoke: for one client")(
      "ids", po::value<Text>()->value_name("A-B"), "issue, revoke: for several")(
      "out", po::value<Text>()->value_name("DIR"),
      "issue: folder for certificate, key and site file (default: the authority's)")(
      "certificate", po::value<Text>()->value_name("FILE"), "revoke: this one")(
      "days", po::value<std::int64_t>()->value_name("N"),
      "how long it is good for (default: 3650 for an authority, else 365)")(
      "algorithm", po::value<Text>()->value_name("ed25519|p256"), "default ed25519")(
      "finish", "rotate: stop trusting the authority before");
}
inline run::CaOptions ca_of(const po::variables_map& values) {
  run::CaOptions options;
  options.action = get<Text>(values, "action", "");
  options.folder = get<Text>(values, "dir", options.folder);
  options.out = get<Text>(values, "out", "");
  options.ids = get<Text>(values, "ids", get<Text>(values, "id", ""));
  options.hosts = get<std::vector<Text>>(values, "server", {});
  options.certificate = get<Text>(values, "certificate", "");
  options.algorithm = get<Text>(values, "algorithm", options.algorithm);
  options.days = get<std::int64_t>(values, "days", 0);
  options.finish = flag(values, "finish");
  return options;
}

}  // namespace fedctl::cli
