// The registries of datasets and partitioners (datasets.def, partitioners.def).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "config/fields.hpp"
#include "data/dataset.hpp"

namespace fedctl::data {

struct DatasetEntry {
  config::Kind kind;
  // Opens or generates it. `rng` is the stream ("data"): generators draw from it, files ignore it.
  // Throws DataError naming the file, the place in it and the fault.
  std::function<Source(const config::Options&, const Rng& rng)> open;
  // Throws ConfigError for options that do not go together, without opening anything; may be empty.
  std::function<void(const config::Options&)> check = {};
};
const std::vector<DatasetEntry>& datasets();  // sorted by name
const config::Kinds& dataset_kinds();
const DatasetEntry& dataset(std::string_view kind);  // throws ConfigError
Source open(const config::Plugin& data, const Rng& rng);

struct PartitionerEntry {
  config::Kind kind;
  // Splits all indices of `train` into `clients` lists (each sorted), every index at most once.
  // Throws ConfigError if it cannot be done (fewer fields than clients, ...).
  std::function<std::vector<std::vector<std::size_t>>(const config::Options&, const Dataset& train,
                                                      std::size_t clients, Rng rng)>
      split;
  // If set: what the training set becomes once it is dealt out (noise of a client's own).
  std::function<std::unique_ptr<Dataset>(const config::Options&, std::unique_ptr<Dataset> train,
                                         const std::vector<Share>& shares, Rng rng)>
      wrap = {};
};
const std::vector<PartitionerEntry>& partitioners();
const config::Kinds& partitioner_kinds();

// The partitioner's lists, each with floor(holdout * size) examples moved to Share::holdout, drawn
// by rng.stream("holdout", client). Throws DataError naming the first client left without a train
// example.
std::vector<Share> partition(const config::Plugin& partitioner, const Dataset& train,
                             std::size_t clients, double holdout, const Rng& rng);

// The same for a whole source, whose training set the partitioner may replace by a wrapped one.
std::vector<Share> deal(const config::Plugin& partitioner, Source& source, std::size_t clients,
                        double holdout, const Rng& rng);

}  // namespace fedctl::data
