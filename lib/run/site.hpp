// The site file of a client (docs/experiment.md): what stays its own affair.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "run/experiment.hpp"

namespace fedctl::run {

// What a server may ask of this site.
struct PolicyOptions final : config::Options {
  std::vector<std::string> methods;
  std::vector<std::string> paths;  // of this machine, that plans may name
  double min_noise = 0, max_epsilon = 0;
  std::int64_t max_rounds = 0, max_steps = 0;
  std::int64_t max_bytes_per_round = 0, max_bytes = 0, min_cohort = 0;
  std::string secure_aggregation = "any";
  bool plaintext = true;
  void fields(config::Fields& fields) override;

  // Both throw ProtocolError naming the key that the plan is beyond.
  void require(const Experiment& plan) const;
  // Of one client with so many training examples.
  void require_steps(const learn::TrainOptions& train, std::size_t examples) const;
};

struct SiteOptions final : config::Options {
  struct Data final : config::Options {
    std::string path, test;
    void fields(config::Fields& fields) override;
  };
  struct Path final : config::Options {
    std::string path;
    void fields(config::Fields& fields) override;
  };
  Data data;
  Path model, adapter;
  std::string tokenizer;
  TlsOptions tls;
  PolicyOptions policy;
  std::int64_t threads = 0;
  void fields(config::Fields& fields) override;
};

// The options of the file, its paths taken from its folder; their defaults if `path` is "". Throws
// ConfigError.
SiteOptions read_site(const std::string& path);

}  // namespace fedctl::run
