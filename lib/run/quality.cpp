#include "run/quality.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/assert.hpp"
#include "learn/generate.hpp"

namespace fedctl::run {
namespace {

using Clock = std::chrono::steady_clock;

void set_or_null(journal::Event& event, std::string_view key, std::optional<double> value) {
  if (value) {
    event.set(key, *value);
  } else {
    event.set(key, nullptr);
  }
}

Quality quality_of(const learn::Scores& scores, data::Task task) {
  Quality quality;
  if (scores.count == 0) return quality;
  const auto count = static_cast<double>(scores.count);
  quality.loss = scores.loss_sum / count;
  if (task != data::Task::regress) quality.accuracy = static_cast<double>(scores.correct) / count;
  return quality;
}

}  // namespace

Quality measure(Job& job, std::span<const float> weights) {
  const auto start = Clock::now();
  const EvaluateOptions& evaluate = job.experiment.evaluate;
  const data::Dataset& data = job.test_set();
  const std::vector<std::size_t> indices = job.test_indices();
  learn::Predictions predictions;
  const bool wanted = !evaluate.metrics.empty() && data.info().task == data::Task::classify;
  const learn::Scores scores = learn::evaluate(*job.learners, weights, data, indices,
                                               static_cast<std::size_t>(evaluate.batch_size),
                                               wanted ? &predictions : nullptr);
  Quality quality = quality_of(scores, data.info().task);
  for (const std::string& name : evaluate.metrics) {
    if (name == kExactMatch) {
      quality.metrics.emplace_back(
          name, learn::exact_match(*job.learners, weights, data, indices,
                                   {evaluate.generate_max, evaluate.generate_examples}));
    }
    for (const learn::Metric& metric : learn::metrics()) {
      if (metric.name == name) quality.metrics.emplace_back(name, metric.value(predictions));
    }
  }
  quality.evaluate_ms = to_ms(Clock::now() - start);
  return quality;
}

std::optional<Quality> pooled(std::span<const learn::Scores> clients, data::Task task) {
  if (clients.empty()) return std::nullopt;
  learn::Scores sum;
  for (const learn::Scores& scores : clients) sum += scores;
  return quality_of(sum, task);
}

double score_of(const Quality& quality, const std::string& best, data::Task task) {
  const bool by_loss =
      best == "loss" || (best == "auto" && (task == data::Task::language || !quality.accuracy));
  if (by_loss) return -quality.loss;
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (best == "auto" || best == "accuracy") return quality.accuracy.value_or(kUnknown);
  for (const auto& [name, value] : quality.metrics) {
    if (name == best) return value;
  }
  return kUnknown;
}

Spread spread_of(std::vector<double> values) {
  FEDCTL_ASSERT(!values.empty());
  Spread spread;
  for (const double value : values) spread.mean += value;
  spread.mean /= static_cast<double>(values.size());
  std::ranges::sort(values);
  spread.worst = values.front();
  spread.p10 = values[(values.size() + 9) / 10 - 1];
  return spread;
}

void describe(const std::optional<Quality>& quality, data::Task task, journal::Event& event) {
  set_or_null(event, "accuracy", quality ? quality->accuracy : std::nullopt);
  set_or_null(event, "loss", quality ? std::optional(quality->loss) : std::nullopt);
  if (!quality) return;
  if (task == data::Task::language) event.set("perplexity", std::exp(quality->loss));
  for (const auto& [name, value] : quality->metrics) event.set(name, value);
}

void describe(std::span<const learn::Scores> clients, data::Task task, journal::Event& event) {
  if (clients.empty()) {
    set_or_null(event, "client_accuracy", {});
    set_or_null(event, "client_loss", {});
    return;
  }
  std::vector<double> accuracies, losses;
  for (const learn::Scores& scores : clients) {
    const auto count = static_cast<double>(scores.count);
    accuracies.push_back(static_cast<double>(scores.correct) / count);
    losses.push_back(scores.loss_sum / count);
  }
  if (task == data::Task::regress) {
    set_or_null(event, "client_accuracy", {});
  } else {
    const Spread spread = spread_of(accuracies);
    journal::Object object;
    object.set("mean", spread.mean).set("p10", spread.p10).set("worst", spread.worst);
    event.set("client_accuracy", object);
  }
  event.set("client_loss", spread_of(losses).mean);
}

void check_evaluate(const EvaluateOptions& evaluate, const data::Dataset& data) {
  const data::Task task = data.info().task;
  for (const std::string& name : evaluate.metrics) {
    if (name == kExactMatch) {
      if (data.tokenizer() != nullptr && data.size() > 0 && data.exchange(0)) continue;
      throw ConfigError("evaluate.metrics names " + name + ", but the data have no answers",
                        "data.prompt and data.response name their columns");
    }
    if (task != data::Task::classify) {
      throw ConfigError("evaluate.metrics names " + name + ", but the data have no classes",
                        "leave it out");
    }
  }
  if (evaluate.best == "accuracy" && task == data::Task::regress) {
    throw ConfigError("evaluate.best is accuracy, but the data have no classes",
                      "evaluate: {best: loss}");
  }
}

}  // namespace fedctl::run
