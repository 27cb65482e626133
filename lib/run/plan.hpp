// What a run will cost, found out before it runs: `fedctl plan`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "run/commands.hpp"
#include "run/job.hpp"
#include "talk/ledger.hpp"

namespace fedctl::run {

// Who has what: training examples by client and class. Without classes there is one column.
struct Histogram {
  std::vector<std::string> classes;
  std::vector<std::vector<std::size_t>> counts;  // [client][class]
  std::vector<std::size_t> totals() const;       // by client
  std::size_t columns() const { return counts.empty() ? 0 : counts.front().size(); }
  // Too large for a table.
  bool large() const;
};
Histogram histogram_of(const Job& job);

// What `fedctl simulate` takes on this machine, from some rounds of it.
struct Simulation {
  double start_s = 0;     // data and model
  double clients_s = 0;   // of a round: training and all that lies around it, on all workers
  double commit_s = 0;    // of a round: the checkpoint
  double evaluate_s = 0;  // of one evaluation
  std::int64_t rounds = 0, evaluations = 0;
  std::uint64_t peak_memory = 0;  // bytes

  double round_s() const { return clients_s + commit_s; }
  double total_s() const {
    return start_s + static_cast<double>(rounds) * round_s() +
           static_cast<double>(evaluations) * evaluate_s;
  }
};

// What `fedctl server` and its clients take on this machine, from some rounds of them.
struct Served {
  int signal = 0;           // that ended the trial, or 0
  std::size_t hosts = 0;    // processes of clients; 0: not tried
  std::int64_t played = 0;  // rounds
  double played_s = 0;      // of all these, without evaluation
  double start_s = 0;       // until the first round begins: all have joined that it asks for
  double round_s = 0;       // once settled, without evaluation
  double evaluate_s = 0;    // of one evaluation
  double end_s = 0;         // until the process has ended
  std::int64_t rounds = 0, evaluations = 0;
  std::uint64_t peak_memory = 0;  // of the server, so far, bytes

  double total_s() const {
    return start_s + played_s + static_cast<double>(rounds - played) * round_s +
           static_cast<double>(evaluations) * evaluate_s + end_s;
  }
};

// Bytes are those of one client and round, as the ledger counts them.
struct Forecast {
  std::int64_t rounds = 0, clients = 0, cohort = 0;
  std::size_t test_examples = 0, trainable = 0, base = 0;
  Histogram histogram;
  double payload_up = 0, framing_up = 0, payload_down = 0, framing_down = 0;  // bytes
  double payload_peers = 0, framing_peers = 0;  // sent to other clients
  talk::Crossing handshake = {};                // once
  std::uint64_t resident = 0;                   // bytes, data and model open
  std::size_t workers = 1;
  double step_ms = 0;      // one real training step here
  std::int64_t steps = 0;  // of the client with the most examples, a round
  double up_mbit = 20, down_mbit = 100, latency_ms = 30;
  Simulation simulation = {};
  Served served = {};

  double up() const { return payload_up + framing_up; }
  double down() const { return payload_down + framing_down; }
  double round_up() const { return up() * static_cast<double>(cohort); }
  double peers() const { return payload_peers + framing_peers; }
  double round_peers() const { return peers() * static_cast<double>(cohort); }
  double round_down() const { return down() * static_cast<double>(cohort); }
  double once_up() const {
    return static_cast<double>(handshake.up.sum()) * static_cast<double>(clients);
  }
  double once_down() const {
    return static_cast<double>(handshake.down.sum()) * static_cast<double>(clients);
  }
  std::uint64_t peak_memory() const;  // resident, and three copies of the update a worker
  // Of `fedctl server` without LibTorch: what is resident, the weights in the forms that a round
  // needs at once, and a connection for each client (docs/scale.md).
  std::uint64_t server_memory() const;
  double transfer_s() const;  // both directions, one client
  double train_s() const;     // of the slowest client
};

// Runs one round of the real method on real frames with a few clients, one training step each
// where the number of steps does not change the messages; some rounds with all clients where the
// messages are numbers.
Forecast forecast(Job& job, std::size_t workers, const std::string& version);

// Plays a part of a round on all workers, and some batches of the test set. `start_s`: how long the
// job took to open.
Simulation measure_simulation(Job& job, double start_s);
// Serves the experiment to clients in `options.hosts` processes over loopback, without TLS, until
// some rounds are over. The clients share `threads`. Throws ConfigError with what a process says
// that fails, RunDirectoryError.
Served measure_server(const PlanOptions& options, const Job& job, std::size_t threads);
// Of the whole run, with that of the untuned model.
std::int64_t evaluations_of(const Job& job);

std::string forecast_json(const Forecast& forecast, const Experiment& experiment);
std::string forecast_text(const Forecast& forecast, const Experiment& experiment);
// Stacked bars, a client each.
std::string histogram_svg(const Histogram& histogram, const std::string& title);

// The deal as partitioner `file` reads it: a client number a line, or JSON. Throws ConfigError if
// lines are asked for and a row belongs to nobody.
std::string partition_text(const std::vector<data::Share>& shares, std::size_t rows, bool json);

}  // namespace fedctl::run
