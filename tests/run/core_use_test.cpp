#include "run/core_use.hpp"

#include <catch2/catch.hpp>

using namespace fedctl;
using namespace fedctl::run;
using Catch::Contains;

namespace {

Job job_of(std::int64_t rounds, std::size_t threads) {
  const std::string text =
      "name: toy\nmodel: {kind: quadratic}\nadapter: {kind: full}\n"
      "data: {kind: quadratic_targets, rows: 4, cols: 5, rank: 2, clients: 12, "
      "partition: {kind: by_field}, holdout: 0}\n"
      "train: {steps: 1000, batch_size: 1, optimizer: {kind: sgd, lr: 0.05, momentum: 0}}\n"
      "clients: {count: 12}\nrounds: " +
      std::to_string(rounds) + '\n';
  return make_job(read_experiment({text, "exp.yaml", {}}), threads);
}

}  // namespace

TEST_CASE("little work is not measured: one client a core", "[run][cores]") {
  Job job = job_of(3, 4);
  const CoreUse use = share_cores(job);
  CHECK(use.workers == 4);
  CHECK(use.threads_each == 1);
  CHECK(use.shared_step_ms == 0);
  CHECK(job.learners->count_max() == 4);
  CHECK(use.text() == "one client a core, 4 at once");
}

TEST_CASE("a learner that gains nothing from more threads keeps one client a core",
          "[run][cores]") {
  Job job = job_of(10'000'000, 2);  // hours of work
  const CoreUse use = share_cores(job);
  CHECK(use.shared_step_ms > 0);
  CHECK(use.same_bits);
  CHECK(use.threads_each == 1);
  CHECK_THAT(use.text(), Contains("one client a core, 2 at once (a step takes"));
}

TEST_CASE("what is shown says which way was taken, and why not the other", "[run][cores]") {
  CoreUse use{.workers = 1, .threads_each = 8, .step_ms = 10, .shared_step_ms = 1.5};
  CHECK(use.text() ==
        "one client at a time on 8 cores (a step takes 10.00 ms on one core, 1.50 ms on all)");
  use = {.workers = 8, .step_ms = 10, .shared_step_ms = 0.5, .same_bits = false};
  CHECK_THAT(use.text(), Contains("8 at once") && Contains("with other bits"));
}
