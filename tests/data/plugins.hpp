// Datasets and partitioners as an experiment file names them.
#pragma once

#include <string>

#include "config/config.hpp"
#include "data/registry.hpp"

namespace fedctl::test {

struct OnePlugin final : config::Options {
  explicit OnePlugin(const config::Kinds& known) : kinds(known) {}
  void fields(config::Fields& fields) override {
    fields.plugin("it", plugin, kinds, "what is tested");
  }
  const config::Kinds& kinds;
  config::Plugin plugin;
};

// From "{kind: phrases, task: language}", read as strictly as an experiment file.
inline config::Plugin from_yaml(const config::Kinds& kinds, const std::string& yaml) {
  OnePlugin root(kinds);
  config::read({"it: " + yaml, "test.yaml", {}}, root);
  return root.plugin;
}

inline data::Source open_data(const std::string& yaml, std::uint64_t seed = 1) {
  return data::open(from_yaml(data::dataset_kinds(), yaml), Rng(seed).stream("data"));
}

inline std::vector<data::Share> split(const std::string& yaml, const data::Dataset& train,
                                      std::size_t clients, double holdout = 0,
                                      std::uint64_t seed = 1) {
  return data::partition(from_yaml(data::partitioner_kinds(), yaml), train, clients, holdout,
                         Rng(seed).stream("partition"));
}

inline std::vector<std::size_t> all_of(const data::Dataset& dataset) {
  std::vector<std::size_t> indices(dataset.size());
  for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = i;
  return indices;
}

}  // namespace fedctl::test
