// Decoupled DiLoCo: Douillard, Rush, Donchev, Charles et al., "Decoupled DiLoCo for resilient
// distributed pre-training", 2026, arXiv 2604.21428. streaming_diloco without its barrier: a merge
// takes in who is there.
//
//   merge t  fragment p = (t - 1) mod P
//   server -> client  "train"   as of diloco.cpp, "round" = t; "steps" <= train.steps. To everyone
//                     who is idle, once a merge; a question stays open behind the merge
//   client -> server  "update"  as of diloco.cpp; "round" that it answers; "tokens", "token_steps":
//                     trained since it last received fragment p
//   server            waits for `quorum` answers and the grace (detail/decoupled.hpp), or until
//                     nobody who was asked for this merge is at work; the mean of the deltas or
//                     their radial-directional average; the outer step of diloco
//
// Payload of a cycle and client: d floats each way, and 24 bytes a merge up. An answer to an
// earlier merge is dropped (journal: late): the client trains on with what it has, is asked again
// at once, and for fewer steps: its last ones over the merges it took; every answer in time earns
// one back. A merge is a line in the journal, beside its `round`.
//
// After a restart open questions are put again (detail/buffered.hpp). What is merged depends on
// envelopes and passed deadlines alone, which the server keeps: a replay makes the same weights.
//
// Deviation from the paper: a client answers after "steps" instead of at its next step; xi_sync is
// 0, since a server that asks and is answered sees the exchange as part of xi_step; embeddings are
// merged like the rest. The defaults are the mean and weights by examples. Unconfirmed: gamma, cap,
// smoothing, lr and momentum.
#include "methods/detail/decoupled.hpp"

namespace fedctl::methods {

MethodEntry decoupled_diloco();

void DecoupledOptions::fields(config::Fields& fields) {
  fields.integer("quorum", quorum, {1, limits::kClientsMax}, "answers that a merge waits for");
  grace.fields(fields);
  fields.text("weights", weights, {.one_of = {"examples", "tokens"}},
              "of the answers: the client's examples, or tokens times tokens a step");
  fields.text("merge", merge, {.one_of = {"mean", "rda"}},
              "the mean of the differences, or of their directions and lengths apart");
  outer.fields(fields);
  fields.boolean("ablate", ablate, "the longest grace, all steps, rda never left for the mean");
}

MethodEntry decoupled_diloco() {
  return {.kind = {"decoupled_diloco", "streaming_diloco that waits for nobody in particular",
                   "Douillard, Rush, Donchev et al., 2026, arXiv 2604.21428",
                   [] { return std::make_unique<DecoupledOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 3,
          .alike = false,
          .rounds = false,
          .whole_cohort = true,
          .fixed_steps = true,
          .make_server =
              [](const config::Options& options, const JobPlan& plan) {
                const auto& own = dynamic_cast<const DecoupledOptions&>(options);
                return make_decoupled_server(own, plan);
              },
          .make_client =
              [](const config::Options& options, const JobPlan& plan) {
                const auto& own = dynamic_cast<const DecoupledOptions&>(options);
                return make_diloco_client(own.outer, plan, true);
              }};
}

}  // namespace fedctl::methods
