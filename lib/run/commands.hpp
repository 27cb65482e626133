// The sub-commands as functions. Options are checked values; every function throws an Error or
// returns the exit status (contract.md, section 1).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "run/experiment.hpp"
#include "run/printer.hpp"
#include "run/run_directory.hpp"

namespace fedctl::run {

inline constexpr int kDone = 0, kFailed = 1, kUsage = 2, kRefused = 3, kShortfall = 4, kBadData = 5,
                     kBadDirectory = 6;

struct OutputOptions {
  Format format = Format::automatic;
  bool quiet = false, verbose = false;
};

struct RunOptions {
  config::Source source;
  std::string run_dir;  // "" = runs/<name>
  Start start = Start::create;
  OutputOptions output;
  std::int64_t threads = 0;
  std::string port_file;  // server
  bool insecure = false;
  std::string version;
  std::string save_updates;  // simulate: folder for what clients send, or ""
};
int serve(const RunOptions& options);
int simulate(const RunOptions& options);

struct ClientOptions {
  std::vector<std::int64_t> ids;
  std::string server;
  std::string site;                        // site file or ""
  std::vector<std::string> allowed_paths;  // beside the site file's policy.paths
  std::string state_dir;                   // or "": in memory
  OutputOptions output;
  std::int64_t threads = 0;
  double retry_s = 0;  // 0: 1 s at first, 60 s once connected
  bool insecure = false;
  std::string version;
};
int join(const ClientOptions& options);

int check(const config::Source& source, bool explain, bool schema);
// What `check` checks: the experiment, and that the files it names are there. Throws ConfigError or
// DataError.
Experiment check_experiment(const config::Source& source);
// Prints what is there, or throws RunDirectoryError naming the first thing that is wrong.
// With an authority's file, the journal must be signed by a server of it.
int verify(const std::string& run, const std::string& authority = "");
// `what` is one of the registries' names or "" for all.
int list(const std::string& what, bool json);

struct CaOptions {
  std::string action;              // init, issue, revoke, rotate
  std::string folder = "ca";       // of the authority
  std::string out;                 // issue: folder; "": the authority's
  std::string ids;                 // issue, revoke: clients, or ""
  std::vector<std::string> hosts;  // issue: of a server
  std::string certificate;         // revoke: file, or ""
  std::string algorithm = "ed25519";
  std::int64_t days = 0;  // 0: 3650 for an authority, else 365
  bool finish = false;    // rotate
};
int ca(const CaOptions& options);

struct BackboneOptions {
  config::Source source;
  std::string out;
  OutputOptions output;
};
int backbone(const BackboneOptions& options);

struct ExportOptions {
  std::string run;                // run directory
  std::string round = "best";     // best, last or a number
  std::string out;                // folder to write
  bool merged = false;            // a whole model instead of a PEFT folder
  std::string dtype = "float32";  // of a merged model: float32, float16, bfloat16
  std::string logits;             // file for reference logits, or ""
  std::int64_t examples = 8;      // in that file
};
int export_run(const ExportOptions& options);

struct CodecFileOptions {
  std::string chain;    // YAML, as under codec.up
  std::string in, out;  // safetensors; out "": measure only
  std::int64_t seed = 0;
  bool together = false;  // one message with a block a tensor, not one a tensor
  OutputOptions output;
};
// Encodes and decodes the float32 tensors of a file, and prints what it cost and lost.
int codec_file(const CodecFileOptions& options);

struct PlanOptions {
  config::Source source;
  double up_mbit = 20, down_mbit = 100, latency_ms = 30;  // of a client's link; 0 Mbit/s: unlimited
  std::string write_partition, svg;                       // files, or ""
  std::int64_t hosts = 0;  // processes of clients of a server that is tried; 0: none is
  std::string version;
  OutputOptions output;
  std::int64_t threads = 0;
};
int plan(const PlanOptions& options);

struct SweepCommand {
  config::Source source;                                         // the sweep file
  std::vector<std::pair<std::string, std::string>> environment;  // overrides of the experiment
  std::string folder;                                            // "" = runs/<name>
  std::string executor;                                          // "": as the file says
  bool dry_run = false, table_only = false;
  std::int64_t run = -1;  // compute this run alone: an array task
  std::string digest;     // of the sweep that the task was submitted for, or ""
  std::int64_t threads = 0;
  OutputOptions output;
};
int sweep(const SweepCommand& command);

}  // namespace fedctl::run
