#include "run/site.hpp"

#include <algorithm>
#include <filesystem>

#include "config/paths.hpp"

namespace fedctl::run {

void PolicyOptions::fields(config::Fields& fields) {
  fields.texts("methods", methods, "that may be run here; none named: all");
  fields.texts("paths", paths,
               "files and folders that a plan may name, with all that is in them; none: it names "
               "no file of this machine");
  fields.integer("max_rounds", max_rounds, {.min = 0}, "that a plan may have; 0: any number");
  fields.integer("max_steps", max_steps, {.min = 0},
                 "of a client's local training, in its epochs or in numbers; 0: any number");
  fields.real("min_noise", min_noise, {.min = 0},
              "noise multiplier that the plan must add at least; 0: none needed");
  fields.real("max_epsilon", max_epsilon, {.min = 0},
              "privacy loss that the plan may have at most; 0: any");
  fields.integer("max_bytes_per_round", max_bytes_per_round, {.min = 0},
                 "of each client, both ways; 0: any number");
  fields.integer("max_bytes", max_bytes, {.min = 0},
                 "of each client, both ways, since its state began; 0: any number");
  fields.text("secure_aggregation", secure_aggregation, {.one_of = {"any", "required"}},
              "required: the server may learn sums of updates alone");
  fields.integer("min_cohort", min_cohort, {.min = 0},
                 "clients whose updates are summed, at least, with secure aggregation; 0: any");
  fields.boolean("plaintext", plaintext, "whether TLS may be missing");
}

void PolicyOptions::require(const Experiment& plan) const {
  const std::string& method = plan.method.kind;
  if (!methods.empty() && std::ranges::find(methods, method) == methods.end()) {
    throw ProtocolError("policy.methods: " + method + " is not allowed here");
  }
  if (max_rounds > 0 && plan.rounds > max_rounds) {
    throw ProtocolError("policy.max_rounds " + std::to_string(max_rounds) + ": the plan has " +
                        std::to_string(plan.rounds) + " rounds");
  }
  const bool masked = plan.privacy.secure_aggregation.kind != "none";
  if (!masked && secure_aggregation == "required") {
    throw ProtocolError("policy.secure_aggregation: required, and the plan has none");
  }
  methods::JobPlan sums;
  sums.per_round = plan.cohort();
  sums.quorum = plan.clients.quorum;
  sums.secure.on = masked;
  const std::int64_t summed = masked ? sums.quorum_count() : 1;
  if (summed < min_cohort) {
    throw ProtocolError("policy.min_cohort: " + std::to_string(min_cohort) +
                        ", and the plan sums " + std::to_string(summed) +
                        " updates (clients.quorum)");
  }
  // There is no privacy section to read yet: no plan adds noise, every epsilon is infinite.
  if (min_noise > 0) {
    throw ProtocolError("policy.min_noise: the plan adds no noise");
  }
  if (max_epsilon > 0) {
    throw ProtocolError("policy.max_epsilon: the plan bounds no privacy loss");
  }
}

void PolicyOptions::require_steps(const learn::TrainOptions& train, std::size_t examples) const {
  if (max_steps == 0) return;
  const std::int64_t steps = learn::steps_of(train, examples);
  if (steps <= max_steps) return;
  throw ProtocolError("policy.max_steps " + std::to_string(max_steps) +
                      ": the plan asks for more steps of one local training");
}

void SiteOptions::Data::fields(config::Fields& fields) {
  fields.text("path", path, {.kind = "a path"}, "used instead of the server's");
  fields.text("test", test, {.kind = "a path"}, "the same, of the test part; none: it has none");
}

void SiteOptions::Path::fields(config::Fields& fields) {
  fields.text("path", path, {.kind = "a path"}, "used instead of the server's");
}

void SiteOptions::fields(config::Fields& fields) {
  fields.section("data", data, "this site's own examples; all of them belong to its clients");
  fields.text("tokenizer", tokenizer, {.kind = "a path"}, "where this site keeps the tokenizer");
  fields.section("model", model, "where this site keeps the base model");
  fields.section("adapter", adapter, "where this site keeps the adapter to start from");
  fields.section("tls", tls, "this site's certificate, as fedctl ca issue writes it");
  fields.section("policy", policy, "what a server may ask of this site");
  fields.integer("threads", threads, {0, 1024}, "worker threads; 0: one a core");
}

SiteOptions read_site(const std::string& path) {
  SiteOptions site;
  if (path.empty()) return site;
  config::read(config::read_source(path), site);
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const auto from_folder = [&](std::string& file) {
    if (!file.empty()) file = (folder / file).string();
  };
  config::visit_paths(site, [&](const std::string&, std::string& file, bool) { from_folder(file); });
  std::ranges::for_each(site.policy.paths, from_folder);
  return site;
}

}  // namespace fedctl::run
