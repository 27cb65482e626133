#include "data/registry.hpp"

#include <algorithm>

#include "base/errors.hpp"

namespace fedctl::data {

#define DATASET(name) DatasetEntry name();
#include "data/datasets.def"
#undef DATASET
#define PARTITIONER(name) PartitionerEntry partition_##name();
#include "data/partitioners.def"
#undef PARTITIONER

namespace {

template <class Entry>
config::Kinds kinds_of(const std::vector<Entry>& entries) {
  config::Kinds kinds;
  for (const Entry& entry : entries) kinds.push_back(entry.kind);
  return kinds;
}

template <class Entry>
const Entry& entry_of(const std::vector<Entry>& entries, const std::string& kind, const char* key) {
  const auto found =
      std::ranges::find(entries, kind, [](const Entry& entry) { return entry.kind.name; });
  if (found == entries.end()) throw ConfigError(std::string(key) + ": no kind \"" + kind + '"');
  return *found;
}

}  // namespace

const std::vector<DatasetEntry>& datasets() {
#define DATASET(name) name(),
  static const std::vector<DatasetEntry> kTable = {
#include "data/datasets.def"
  };
#undef DATASET
  return kTable;
}

const config::Kinds& dataset_kinds() {
  static const config::Kinds kKinds = kinds_of(datasets());
  return kKinds;
}

const DatasetEntry& dataset(std::string_view kind) {
  return entry_of(datasets(), std::string(kind), "data");
}

Source open(const config::Plugin& data, const Rng& rng) {
  return dataset(data.kind).open(*data.options, rng);
}

const std::vector<PartitionerEntry>& partitioners() {
#define PARTITIONER(name) partition_##name(),
  static const std::vector<PartitionerEntry> kTable = {
#include "data/partitioners.def"
  };
#undef PARTITIONER
  return kTable;
}

const config::Kinds& partitioner_kinds() {
  static const config::Kinds kKinds = kinds_of(partitioners());
  return kKinds;
}

std::vector<Share> partition(const config::Plugin& partitioner, const Dataset& train,
                             std::size_t clients, double holdout, const Rng& rng) {
  const PartitionerEntry& entry = entry_of(partitioners(), partitioner.kind, "data.partition");
  const auto lists = entry.split(*partitioner.options, train, clients, rng.stream("split"));
  std::vector<Share> shares(clients);
  for (std::size_t client = 0; client < clients; ++client) {
    std::vector<std::size_t> order = lists[client];
    // floor(holdout * size); the margin keeps 0.29 of 100 at 29, which is 28.999... in binary.
    const auto held = static_cast<std::size_t>(holdout * static_cast<double>(order.size()) + 1e-9);
    if (held >= order.size()) {
      throw DataError("data.partition: client " + std::to_string(client) + " of " +
                          std::to_string(clients) +
                          " has no training example: " + std::to_string(order.size()) +
                          " in all, " + std::to_string(held) + " held out",
                      "fewer clients, more data, or partition: {kind: iid}");
    }
    Rng draw = rng.stream("holdout", client);
    draw.shuffle(std::span(order));
    const auto kept = static_cast<std::ptrdiff_t>(order.size() - held);
    Share& share = shares[client];
    share.train.assign(order.begin(), order.begin() + kept);
    share.holdout.assign(order.begin() + kept, order.end());
    std::ranges::sort(share.train);
    std::ranges::sort(share.holdout);
  }
  return shares;
}

std::vector<Share> deal(const config::Plugin& partitioner, Source& source, std::size_t clients,
                        double holdout, const Rng& rng) {
  const PartitionerEntry& entry = entry_of(partitioners(), partitioner.kind, "data.partition");
  std::vector<Share> shares = partition(partitioner, *source.train, clients, holdout, rng);
  if (entry.wrap) {
    source.train =
        entry.wrap(*partitioner.options, std::move(source.train), shares, rng.stream("wrap"));
  }
  return shares;
}

}  // namespace fedctl::data
