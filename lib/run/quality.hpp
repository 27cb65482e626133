// Quality: how good a model is, as the round line tells it, measured by the server on its test set
// or put together from the clients' reports.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "run/job.hpp"

namespace fedctl::run {

struct Quality {
  std::optional<double> accuracy;  // none where the task has none
  double loss = 0;
  std::vector<std::pair<std::string, double>> metrics;  // as evaluate.metrics names them
  double evaluate_ms = 0;
};

// On the job's test set, with all learners.
Quality measure(Job& job, std::span<const float> weights);
// Sums over all held-out examples of the clients that reported; none did: no quality.
std::optional<Quality> pooled(std::span<const learn::Scores> clients, data::Task task);

// Higher is better: the metric that `best` names (evaluate.best), or minus the loss. NaN if the
// quality does not say.
double score_of(const Quality& quality, const std::string& best, data::Task task);

// Over the clients that reported: the plain mean, the 10th percentile (nearest rank: the smallest
// value that a tenth of the clients do not exceed) and the least.
struct Spread {
  double mean = 0, p10 = 0, worst = 0;
};
Spread spread_of(std::vector<double> values);  // precondition: not empty

// Adds "accuracy", "loss", "perplexity" and the metrics; null where there is no quality.
void describe(const std::optional<Quality>& quality, data::Task task, journal::Event& event);
// Adds "client_accuracy" and "client_loss".
void describe(std::span<const learn::Scores> clients, data::Task task, journal::Event& event);

// Throws ConfigError if evaluate.metrics or evaluate.best ask for what the data have not.
void check_evaluate(const EvaluateOptions& evaluate, const data::Dataset& data);

}  // namespace fedctl::run
