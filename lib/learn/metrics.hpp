// Metrics of a classifier that need all predictions at once, beside the sums in Scores.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace fedctl::learn {

// In the order of the examples, whoever computed them.
struct Predictions {
  std::int64_t classes = 0;
  std::vector<std::int64_t> labels;  // in [0, classes)
  std::vector<float> logits;         // [labels.size(), classes]
};

// Mean over classes of F1 = 2 tp / (2 tp + fp + fn), over the classes that occur among the labels
// or the predictions, as scikit-learn's f1_score(average="macro") has it. A prediction is the first
// largest logit.
double macro_f1(const Predictions& predictions);

// Area under the ROC curve: the chance that an example of the class scores above one of another
// class, equal scores counting one half (Hanley and McNeil, Radiology 143, 1982). Two classes: of
// class 1. More: mean of one class against the rest, by the class's log odds, over the classes that
// are among the labels and are not all of them.
double auc(const Predictions& predictions);

// Both are NaN where they are not defined (no examples; for auc, one class alone) or a logit is not
// finite.
struct Metric {
  std::string name, summary;
  std::function<double(const Predictions&)> value;
};
const std::vector<Metric>& metrics();

}  // namespace fedctl::learn
