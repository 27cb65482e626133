// The command line: a table of sub-commands, their options, exit codes. No logic.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/program_options.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "base/legible.hpp"
#include "net/client_ids.hpp"
#include "options.hpp"
#include "run/commands.hpp"

namespace {

using namespace fedctl;
using namespace fedctl::cli;

struct Command {
  const char* name;
  const char* summary;
  const char* usage;
  const char* examples;
  std::function<void(po::options_description&)> options;
  std::function<int(const po::variables_map&)> run;
  const char* positional = nullptr;  // the option a bare word sets
  // What it writes is its user's own, and goes on when nobody reads its output any more.
  bool keeps = false;
};

int run_client(const po::variables_map& values) {
  run::ClientOptions options;
  if (flag(values, "id") == flag(values, "ids")) {
    throw ConfigError("client: give --id N or --ids A-B", "fedctl client --id 3");
  }
  options.ids =
      net::parse_ids(flag(values, "id") ? values["id"].as<Text>() : values["ids"].as<Text>());
  options.server = get<Text>(values, "server", "127.0.0.1:7143");
  options.site = get<Text>(values, "site", "");
  options.allowed_paths = get<std::vector<Text>>(values, "allow-path", {});
  options.state_dir = get<Text>(values, "state-dir", "");
  options.threads = get<std::int64_t>(values, "threads", 0);
  options.retry_s = get<double>(values, "retry-s", 0);
  options.insecure = flag(values, "insecure");
  options.output = output_of(values);
  options.version = FEDCTL_VERSION;
  return run::join(options);
}

int run_backbone(const po::variables_map& values) {
  run::BackboneOptions options;
  options.source = source_of(values);
  options.out = get<Text>(values, "out", "");
  if (options.out.empty()) throw ConfigError("backbone: --out DIR is missing");
  options.output = output_of(values);
  return run::backbone(options);
}

int run_export(const po::variables_map& values) {
  run::ExportOptions options;
  options.run = get<Text>(values, "run", "");
  if (options.run.empty()) {
    throw ConfigError("export: the run directory is missing", "fedctl export runs/NAME --out DIR");
  }
  options.round = get<Text>(values, "round", options.round);
  options.out = get<Text>(values, "out", "");
  if (options.out.empty()) throw ConfigError("export: --out DIR is missing");
  const Text as = get<Text>(values, "as", "peft");
  if (as != "peft" && as != "merged") {
    throw ConfigError("--as is \"" + as + "\", must be peft or merged");
  }
  options.merged = as == "merged";
  options.dtype = get<Text>(values, "dtype", options.dtype);
  options.logits = get<Text>(values, "logits", "");
  options.examples = get<std::int64_t>(values, "examples", options.examples);
  return run::export_run(options);
}

int print_version(const po::variables_map&) {
  std::printf("fedctl %s\n", FEDCTL_VERSION);
  return run::kDone;
}

const std::vector<Command>& commands() {
  static const std::vector<Command> kCommands = {
      {"server", "serve one experiment to remote clients", "--config FILE [options]",
       "  fedctl server --config configs/quickstart.yaml\n"
       "  fedctl server --config exp.yaml --listen 127.0.0.1:0 --port-file port --set rounds=5\n"
       "  fedctl server --config exp.yaml --resume\n",
       [](po::options_description& options) {
         run_options(options);
         options.add_options()("listen", po::value<Text>()->value_name("HOST:PORT"),
                               "overrides server.listen; port 0 picks a free one and prints it")(
             "port-file", po::value<Text>()->value_name("FILE"),
             "write the port here once listening")(
             "insecure", "allow plaintext on an address that is not loopback");
       },
       [](const po::variables_map& values) { return run::serve(run_of(values)); }, nullptr, true},
      {"client", "take part in an experiment; the server sends the plan",
       "--id N | --ids A-B [options]",
       "  fedctl client --id 3\n"
       "  fedctl client --id 3 --allow-path runs/backbone\n"
       "  fedctl client --ids 0-99 --server 127.0.0.1:7143 --threads 2\n"
       "  fedctl client --id 3 --site site.yaml --state-dir state --retry-s 600\n",
       [](po::options_description& options) {
         options.add_options()("id", po::value<Text>()->value_name("N"), "the client's number")(
             "ids", po::value<Text>()->value_name("A-B"),
             "host many clients in one process: 0-7, 0-3,8")(
             "server", po::value<Text>()->value_name("HOST:PORT"), "default 127.0.0.1:7143")(
             "site", po::value<Text>()->value_name("FILE"), "site file: own data and model paths")(
             "allow-path", po::value<std::vector<Text>>()->value_name("PATH"),
             "a file or folder of this machine that the server's plan may name; repeatable")(
             "state-dir", po::value<Text>()->value_name("DIR"),
             "keep the client's state here: after a crash it goes on where it was")(
             "retry-s", po::value<double>()->value_name("S"),
             "keep trying to connect for S seconds (default: 1 at first, 60 once connected)")(
             "threads", po::value<std::int64_t>()->value_name("N"),
             "worker threads (default: one a core)")(
             "insecure", "allow plaintext to an address that is not loopback");
         output_options(options);
       },
       run_client, nullptr, true},
      {"simulate", "server and all clients in one process, on virtual time",
       "--config FILE [options]",
       "  fedctl simulate --config configs/quickstart.yaml --format text\n"
       "  fedctl simulate --config exp.yaml --set seed=2 --run-dir runs/seed2\n"
       "  fedctl simulate --config exp.yaml --save-updates updates\n",
       [](po::options_description& options) {
         run_options(options);
         options.add_options()("save-updates", po::value<Text>()->value_name("DIR"),
                               "keep every message of every client, before codecs, as safetensors");
       },
       [](const po::variables_map& values) { return run::simulate(run_of(values)); }, nullptr,
       true},
      {"check", "validate an experiment file", "--config FILE [--explain]",
       "  fedctl check --config exp.yaml\n"
       "  fedctl check --config exp.yaml --explain --set codec.error_feedback=ef14\n"
       "  fedctl check --schema > docs/experiment.schema.json\n",
       [](po::options_description& options) {
         experiment_options(options);
         options.add_options()("explain", "print every key, its value, range and meaning")(
             "schema", "print the JSON Schema of experiment files");
       },
       [](const po::variables_map& values) {
         const bool schema = flag(values, "schema");
         return run::check(schema ? config::Source{} : source_of(values), flag(values, "explain"),
                           schema);
       }},
      {"plan", "dry run: who has what, and what a run costs in bytes, memory and time",
       "--config FILE [options]",
       "  fedctl plan --config configs/quickstart.yaml\n"
       "  fedctl plan --config exp.yaml --up-mbit 1 --latency-ms 200 --format json\n"
       "  fedctl plan --config exp.yaml --hosts 2\n"
       "  fedctl plan --config exp.yaml --svg labels.svg --write-partition deal.txt\n",
       plan_options, [](const po::variables_map& values) { return run::plan(plan_of(values)); }},
      {"codec", "what a codec chain makes of a file's tensors: bits a value, lost share",
       "--chain YAML --in FILE [options]",
       "  fedctl codec --chain '[{kind: topk, ratio: 0.01}, sign]' --in update.safetensors\n"
       "  fedctl codec --chain '{kind: auto, bits_per_parameter: 0.5}' --in a.safetensors --out "
       "b.safetensors\n"
       "  fedctl codec --chain auto --in update.safetensors --together --seed 3 --format json\n",
       codec_options,
       [](const po::variables_map& values) { return run::codec_file(codec_of(values)); }},
      {"sweep", "a grid of experiments, each with the same seeds, into one table", "FILE [options]",
       "  fedctl sweep sweep.yaml\n"
       "  fedctl sweep sweep.yaml --executor slurm --run-dir /shared/sweep\n"
       "  fedctl sweep sweep.yaml --table --format text\n",
       sweep_options, [](const po::variables_map& values) { return run::sweep(sweep_of(values)); },
       "file", true},
      {"list", "what the engine has: methods, codecs, models, ...", "[REGISTRY] [--format json]",
       "  fedctl list methods\n  fedctl list --format json\n",
       [](po::options_description& options) {
         options.add_options()("registry", po::value<Text>()->value_name("NAME"),
                               "methods codecs aggregators adapters models datasets partitioners "
                               "optimizers server-optimizers")(
             "format", po::value<Text>()->value_name("text|json"), "");
       },
       [](const po::variables_map& values) {
         return run::list(get<Text>(values, "registry", ""),
                          output_of(values).format == run::Format::json);
       },
       "registry"},
      {"backbone", "train the small frozen model that an experiment adapts",
       "--config FILE --out DIR",
       "  fedctl backbone --config configs/backbone.yaml --out runs/backbone\n",
       [](po::options_description& options) {
         experiment_options(options);
         options.add_options()("out", po::value<Text>()->value_name("DIR"),
                               "folder for config.json and model.safetensors");
         output_options(options);
       },
       run_backbone},
      {"export", "write a run's adapter, or the model with it, for other tools",
       "RUN [--round best|last|N] --out DIR [--as peft|merged]",
       "  fedctl export runs/quickstart --out adapter\n"
       "  fedctl export runs/quickstart --round last --as merged --dtype bfloat16 --out model\n"
       "  fedctl export runs/quickstart --out adapter --logits adapter/logits.safetensors\n",
       [](po::options_description& options) {
         options.add_options()("run", po::value<Text>()->value_name("RUN"), "run directory")(
             "round", po::value<Text>()->value_name("best|last|N"), "default best")(
             "out", po::value<Text>()->value_name("DIR"), "folder to write (required)")(
             "as", po::value<Text>()->value_name("peft|merged"),
             "a PEFT adapter folder (default), or the whole model as safetensors")(
             "dtype", po::value<Text>()->value_name("float32|float16|bfloat16"),
             "of a merged model's weights (default float32)")(
             "logits", po::value<Text>()->value_name("FILE"),
             "also write inputs and logits of the first test examples, to check the export with")(
             "examples", po::value<std::int64_t>()->value_name("K"),
             "how many of them (default 8)");
       },
       run_export, "run"},
      {"verify", "check that a run directory is what its run has written", "RUN",
       "  fedctl verify runs/quickstart\n"
       "  fedctl verify runs/exp --authority ca/authority.pem\n",
       [](po::options_description& options) {
         options.add_options()("run", po::value<Text>()->value_name("RUN"), "run directory")(
             "authority", po::value<Text>()->value_name("FILE"),
             "demand a signature by a server of this authority");
       },
       [](const po::variables_map& values) {
         const Text run = get<Text>(values, "run", "");
         if (run.empty()) {
           throw ConfigError("verify: the run directory is missing", "fedctl verify runs/NAME");
         }
         return run::verify(run, get<Text>(values, "authority", ""));
       },
       "run"},
      {"ca", "certificates for mutual TLS", "init|issue|revoke|rotate [options]",
       "  fedctl ca init\n"
       "  fedctl ca issue --server fl.example.org --server 10.0.0.7\n"
       "  fedctl ca issue --id 3 --out client-3\n"
       "  fedctl ca issue --ids 0-99 --out farm --days 30\n"
       "  fedctl ca revoke --id 3\n"
       "  fedctl ca rotate             then issue to all, then\n"
       "  fedctl ca rotate --finish\n",
       ca_options, [](const po::variables_map& values) { return run::ca(ca_of(values)); },
       "action"},
      {"version", "print the version", "", "  fedctl version\n", [](po::options_description&) {},
       print_version},
  };
  return kCommands;
}

void print_help() {
  std::printf("fedctl: federated fine-tuning in few bytes\n\nusage: fedctl COMMAND [options]\n\n");
  for (const Command& command : commands())
    std::printf("  %-10s %s\n", command.name, command.summary);
  std::printf(
      "\nfedctl COMMAND --help shows a command's options.\n\nexit status: 0 done, 1 failed, 2 bad "
      "command line or "
      "configuration, 3 cannot connect or refused,\n4 quorum not reached, 5 data or model file "
      "unusable, 6 run "
      "directory damaged or locked, or a file\nthat cannot be written, 129 SIGHUP, 130 SIGINT, 138 "
      "SIGUSR1, 143 SIGTERM\n\nexamples:\n"
      "  fedctl server --config configs/quickstart.yaml\n  fedctl client --id 3\n"
      "  fedctl simulate --config configs/quickstart.yaml --format text\n");
}

int run_command(const Command& command, const std::vector<std::string>& arguments) {
  po::options_description options("options");
  command.options(options);
  options.add_options()("help,h", "this text");
  po::positional_options_description positional;
  if (command.positional != nullptr) positional.add(command.positional, 1);
  po::variables_map values;
  try {
    po::store(
        po::command_line_parser(arguments)
            .options(options)
            .positional(positional)
            .style(po::command_line_style::unix_style & ~po::command_line_style::allow_guessing)
            .run(),
        values);
  } catch (const po::unknown_option& error) {
    std::vector<std::string> known;
    for (const auto& option : options.options()) known.push_back("--" + option->long_name());
    const std::string near = config::nearest(error.get_option_name(), known);
    throw ConfigError(std::string(command.name) + ": unknown option " + error.get_option_name(),
                      near.empty() ? "fedctl " + std::string(command.name) + " --help"
                                   : "did you mean " + near + '?');
  } catch (const po::error& error) {
    throw ConfigError(std::string(command.name) + ": " + error.what(),
                      "fedctl " + std::string(command.name) + " --help");
  }
  if (flag(values, "help")) {
    std::printf("fedctl %s: %s\n\nusage: fedctl %s %s\n\n", command.name, command.summary,
                command.name, command.usage);
    std::cout << options << "\nexamples:\n" << command.examples;
    return run::kDone;
  }
  if (command.keeps) {
    ::umask(::umask(0) | 077);
    std::signal(SIGPIPE, SIG_IGN);
  }
  return command.run(values);
}

// Else the next file that is opened, a journal or a connection, would be a standard one.
void open_standard_files() {
  int file = 0;
  do file = ::open("/dev/null", O_RDWR);
  while (file >= 0 && file <= STDERR_FILENO);
  if (file > STDERR_FILENO) ::close(file);
}

int dispatch(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_help();
    return words.empty() ? run::kUsage : run::kDone;
  }
  const std::string name = words[0] == "--version" ? "version" : words[0];
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (name == command.name) return run_command(command, {words.begin() + 1, words.end()});
    names.emplace_back(command.name);
  }
  const std::string near = config::nearest(name, names);
  throw ConfigError("unknown command \"" + name + '"',
                    near.empty() ? "fedctl --help" : "did you mean " + near + '?');
}

int complain(const std::exception& error, int status) {
  std::fprintf(stderr, "fedctl: error: %s\n", printable(error.what()).c_str());
  const auto* ours = dynamic_cast<const Error*>(&error);
  if (ours != nullptr && !ours->hint().empty())
    std::fprintf(stderr, "hint: %s\n", printable(ours->hint()).c_str());
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_files();
  try {
    return dispatch({argv + 1, argv + argc});
  } catch (const ConfigError& error) {
    return complain(error, run::kUsage);
  } catch (const ProtocolError& error) {
    return complain(error, run::kRefused);
  } catch (const QuorumError& error) {
    return complain(error, run::kShortfall);
  } catch (const DataError& error) {
    return complain(error, run::kBadData);
  } catch (const RunDirectoryError& error) {
    return complain(error, run::kBadDirectory);
  } catch (const std::exception& error) {
    return complain(error, run::kFailed);
  }
}
