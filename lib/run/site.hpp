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
  double min_noise = 0, max_epsilon = 0;
  std::int64_t max_bytes_per_round = 0, max_bytes = 0;
  bool plaintext = true;
  void fields(config::Fields& fields) override;

  // Throws ProtocolError naming the key that the plan is beyond.
  void require(const Experiment& plan) const;
};

struct SiteOptions final : config::Options {
  struct Path final : config::Options {
    std::string path;
    void fields(config::Fields& fields) override;
  };
  Path data, model;
  TlsOptions tls;
  PolicyOptions policy;
  std::int64_t threads = 0;
  void fields(config::Fields& fields) override;
};

// The options of the file, or their defaults if `path` is "". Throws ConfigError.
SiteOptions read_site(const std::string& path);

}  // namespace fedctl::run
