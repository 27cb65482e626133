#include "run/site.hpp"

#include <algorithm>

namespace fedctl::run {

void PolicyOptions::fields(config::Fields& fields) {
  fields.texts("methods", methods, "that may be run here; none named: all");
  fields.real("min_noise", min_noise, {.min = 0},
              "noise multiplier that the plan must add at least; 0: none needed");
  fields.real("max_epsilon", max_epsilon, {.min = 0},
              "privacy loss that the plan may have at most; 0: any");
  fields.integer("max_bytes_per_round", max_bytes_per_round, {.min = 0},
                 "of each client, both ways; 0: any number");
  fields.integer("max_bytes", max_bytes, {.min = 0},
                 "of each client, both ways, since its state began; 0: any number");
  fields.boolean("plaintext", plaintext, "whether TLS may be missing");
}

void PolicyOptions::require(const Experiment& plan) const {
  const std::string& method = plan.method.kind;
  if (!methods.empty() && std::ranges::find(methods, method) == methods.end()) {
    throw ProtocolError("policy.methods: " + method + " is not allowed here");
  }
  // There is no privacy section to read yet: no plan adds noise, every epsilon is infinite.
  if (min_noise > 0) {
    throw ProtocolError("policy.min_noise: the plan adds no noise");
  }
  if (max_epsilon > 0) {
    throw ProtocolError("policy.max_epsilon: the plan bounds no privacy loss");
  }
}

void SiteOptions::Path::fields(config::Fields& fields) {
  fields.text("path", path, {.kind = "a path"}, "used instead of the server's");
}

void SiteOptions::fields(config::Fields& fields) {
  fields.section("data", data, "this site's own examples; all of them belong to its clients");
  fields.section("model", model, "where this site keeps the base model");
  fields.section("tls", tls, "this site's certificate, as fedctl ca issue writes it");
  fields.section("policy", policy, "what a server may ask of this site");
  fields.integer("threads", threads, {0, 1024}, "worker threads; 0: one a core");
}

SiteOptions read_site(const std::string& path) {
  SiteOptions site;
  if (!path.empty()) config::read(config::read_source(path), site);
  return site;
}

}  // namespace fedctl::run
