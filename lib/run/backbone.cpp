// `fedctl backbone`: trains a small model in one place, in full, and saves it as a folder that
// model.path takes.
#include <cstdio>
#include <filesystem>

#include "base/digest.hpp"
#include "run/commands.hpp"
#include "run/job.hpp"

namespace fedctl::run {

int backbone(const BackboneOptions& options) {
  Printer printer(options.output.format, options.output.quiet, options.output.verbose);
  Experiment experiment = read_experiment(options.source);
  if (experiment.adapter.kind != "full") {
    throw ConfigError(
        "adapter.kind is " + experiment.adapter.kind + ", a backbone is trained in full",
        "adapter: {kind: full}");
  }
  // One worker, whatever the machine: the same file everywhere.
  experiment.clients.count = 1;
  experiment.clients.per_round = 0;
  const std::int64_t rounds = experiment.rounds;
  const Job job = make_job(std::move(experiment), 1);
  learn::LearnerPool::Lease learner = job.learners->acquire();
  const std::vector<std::size_t> test = job.test_indices();

  for (std::int64_t round = 1; round <= rounds; ++round) {
    const learn::TrainReport report =
        learn::train(*learner, *job.data.train, job.shares[0].train, job.plan.train, {},
                     job.rng().stream("backbone", round));
    printer.progress("round " + std::to_string(round) + " of " + std::to_string(rounds) +
                     ", train loss " + std::to_string(report.loss));
  }
  learn::Scores scores;
  const auto batch = static_cast<std::size_t>(job.experiment.evaluate.batch_size);
  for (std::size_t at = 0; at < test.size(); at += batch) {
    const auto indices = std::span(test).subspan(at, std::min(batch, test.size() - at));
    const learn::Scores part = learner->evaluate(job.test_set().gather(indices));
    scores.correct += part.correct;
    scores.count += part.count;
  }
  std::filesystem::create_directories(options.out);
  learner->save_adapter(options.out, {{"run", job.experiment.name}, {"plan", job.digests.plan}});
  const std::string digest = digest_of(as_bytes_of(std::span<const float>(learner->weights())));
  std::printf("{\"out\":\"%s\",\"parameters\":%zu,\"accuracy\":%.4f,\"digest\":\"%s\"}\n",
              options.out.c_str(), job.plan.layout.size(),
              scores.count > 0
                  ? static_cast<double>(scores.correct) / static_cast<double>(scores.count)
                  : 0.0,
              digest.c_str());
  return kDone;
}

}  // namespace fedctl::run
