// A sweep: one experiment with other values in some keys (cells), each with the same seeds
// (docs/sweep.md). A run is a cell with a seed; it is a `fedctl simulate` of its own.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "config/config.hpp"
#include "run/experiment.hpp"

namespace fedctl::run {

inline constexpr std::size_t kSweepCellsMax = 10'000, kSweepSeedsMax = 10'000;
inline constexpr std::size_t kSweepRunsMax = 100'000;

struct LocalExecutor final : config::Options {
  std::int64_t jobs = 1;
  void fields(config::Fields& fields) override;
};
struct SlurmExecutor final : config::Options {
  std::string partition;
  std::string time = "01:00:00";
  std::int64_t cpus = 1;
  std::int64_t at_once = 0;
  std::vector<std::string> extra;
  bool wait = true;
  void fields(config::Fields& fields) override;
};
const config::Kinds& executor_kinds();

// One key of a cell.
struct Setting {
  std::string key, value;        // as --set takes them
  std::string place, key_place;  // "sweep.yaml:5:33"
};
using Settings = std::vector<Setting>;

struct Cell {
  Settings settings;   // in the order of the file, without `set`
  std::string place;   // of the last of them, or of the entry
  std::string folder;  // below the sweep's; set by check_sweep()

  std::string label() const;  // "train.optimizer.lr=0.1 data.partition.alpha=1", or "all"
  const Setting* find(const std::string& key) const;
};

struct Sweep {
  std::string file, name, experiment, metric;
  Settings set;  // of every cell, before its own
  std::vector<Cell> cells;
  std::vector<std::int64_t> seeds;
  config::Plugin executor;
  std::string folder;

  std::size_t run_count() const { return cells.size() * seeds.size(); }
  // Run i is cell i / seeds with seed i % seeds.
  const Cell& cell_of(std::size_t run) const { return cells[run / seeds.size()]; }
  std::int64_t seed_of(std::size_t run) const { return seeds[run % seeds.size()]; }
  std::string directory_of(std::size_t run) const;
  std::vector<std::string> keys() const;  // of all cells, in order of appearance
  // What the runs are: changes with any cell, seed or value of the experiment.
  std::string digest() const;
};

// Reads the file, without looking at the experiment. `folder`: "" = runs/<name>. Throws ConfigError
// with the place, as config::read() does.
Sweep read_sweep(const config::Source& source, const std::string& folder);

using Overrides = std::vector<std::pair<std::string, std::string>>;
// Checks every cell as `fedctl check` does and sets their folders: two cells with the same folder
// have the same effective experiment, and cells keep theirs whatever else the sweep file says.
// `environment` comes before what the sweep sets. Throws ConfigError or DataError with the place in
// the sweep file. Returns warnings.
std::vector<std::string> check_sweep(Sweep& sweep, const Overrides& environment);

}  // namespace fedctl::run
