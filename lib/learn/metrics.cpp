#include "learn/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "base/assert.hpp"

namespace fedctl::learn {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

bool is_usable(const Predictions& predictions) {
  FEDCTL_ASSERT(predictions.logits.size() ==
                predictions.labels.size() * static_cast<std::size_t>(predictions.classes));
  return !predictions.labels.empty() &&
         std::ranges::all_of(predictions.logits, [](float value) { return std::isfinite(value); });
}

std::span<const float> row_of(const Predictions& predictions, std::size_t example) {
  const auto classes = static_cast<std::size_t>(predictions.classes);
  return std::span(predictions.logits).subspan(example * classes, classes);
}

// log(p / (1 - p)) of class `chosen`. Unlike p it does not run into 1, so that sure answers do not
// become equal ones.
double log_odds(std::span<const float> logits, std::size_t chosen) {
  double most = -std::numeric_limits<double>::infinity();
  for (std::size_t c = 0; c < logits.size(); ++c) {
    if (c != chosen) most = std::max(most, static_cast<double>(logits[c]));
  }
  double sum = 0;
  for (std::size_t c = 0; c < logits.size(); ++c) {
    if (c != chosen) sum += std::exp(static_cast<double>(logits[c]) - most);
  }
  return static_cast<double>(logits[chosen]) - most - std::log(sum);
}

// NaN without examples of either kind.
double auc_of(const std::vector<double>& scores, const std::vector<bool>& positive) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  double ranks = 0, positives = 0;
  for (std::size_t first = 0; first < order.size();) {
    std::size_t end = first, hits = 0;
    for (; end < order.size() && scores[order[end]] == scores[order[first]]; ++end) {
      hits += positive[order[end]] ? 1 : 0;
    }
    // Ranks are first + 1 to end; equal scores share their mean.
    ranks += static_cast<double>(hits) * 0.5 * static_cast<double>(first + 1 + end);
    positives += static_cast<double>(hits);
    first = end;
  }
  const double negatives = static_cast<double>(order.size()) - positives;
  if (positives == 0 || negatives == 0) return kUndefined;
  return (ranks - 0.5 * positives * (positives + 1)) / (positives * negatives);
}

double auc_against_rest(const Predictions& predictions, std::size_t chosen) {
  std::vector<double> scores;
  std::vector<bool> positive;
  for (std::size_t i = 0; i < predictions.labels.size(); ++i) {
    scores.push_back(log_odds(row_of(predictions, i), chosen));
    positive.push_back(predictions.labels[i] == static_cast<std::int64_t>(chosen));
  }
  return auc_of(scores, positive);
}

}  // namespace

double macro_f1(const Predictions& predictions) {
  if (!is_usable(predictions)) return kUndefined;
  struct Counts {
    double hits = 0, labelled = 0, predicted = 0;
  };
  std::vector<Counts> counts(static_cast<std::size_t>(predictions.classes));
  for (std::size_t i = 0; i < predictions.labels.size(); ++i) {
    const std::span<const float> row = row_of(predictions, i);
    const auto label = static_cast<std::size_t>(predictions.labels[i]);
    const auto chosen = static_cast<std::size_t>(std::ranges::max_element(row) - row.begin());
    ++counts[label].labelled;
    ++counts[chosen].predicted;
    if (label == chosen) ++counts[label].hits;
  }
  double sum = 0, present = 0;
  for (const Counts& c : counts) {
    if (c.labelled + c.predicted == 0) continue;
    sum += 2 * c.hits / (c.labelled + c.predicted);  // fp + tp is predicted, fn + tp labelled
    ++present;
  }
  return sum / present;
}

double auc(const Predictions& predictions) {
  if (!is_usable(predictions) || predictions.classes < 2) return kUndefined;
  if (predictions.classes == 2) return auc_against_rest(predictions, 1);
  double sum = 0, defined = 0;
  for (std::size_t c = 0; c < static_cast<std::size_t>(predictions.classes); ++c) {
    const double area = auc_against_rest(predictions, c);
    if (std::isnan(area)) continue;
    sum += area;
    ++defined;
  }
  return defined == 0 ? kUndefined : sum / defined;
}

const std::vector<Metric>& metrics() {
  static const std::vector<Metric> all = {
      {"auc", "area under the ROC curve; more than two classes: one against the rest, mean", auc},
      {"f1", "F1, mean over the classes that occur", macro_f1},
  };
  return all;
}

}  // namespace fedctl::learn
