#include "learn/metrics.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

using namespace fedctl::learn;

namespace {

// Two classes; the margin is the logit of class 1 over that of class 0.
Predictions binary(std::vector<std::int64_t> labels, const std::vector<float>& margins) {
  Predictions made{2, std::move(labels), {}};
  for (const float margin : margins) {
    made.logits.push_back(1);
    made.logits.push_back(1 + margin);
  }
  return made;
}

// One logit of 1 a row.
Predictions sure(std::int64_t classes, std::vector<std::int64_t> labels,
                 const std::vector<std::size_t>& predicted) {
  Predictions made{classes, std::move(labels), {}};
  made.logits.assign(predicted.size() * static_cast<std::size_t>(classes), 0);
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    made.logits[i * static_cast<std::size_t>(classes) + predicted[i]] = 1;
  }
  return made;
}

}  // namespace

TEST_CASE("macro f1 takes the values computed by hand", "[learn][metrics]") {
  CHECK(macro_f1(sure(3, {0, 1, 2}, {0, 1, 2})) == 1);
  CHECK(macro_f1(sure(2, {0, 1}, {1, 0})) == 0);
  // Class 0: tp 2, fn 1: 4/5. Class 1: tp 1, fp 1: 2/3.
  CHECK(macro_f1(sure(2, {0, 0, 0, 1}, {0, 0, 1, 1})) == Approx((0.8 + 2.0 / 3) / 2));
  // Class 3 is nowhere and does not count; class 2 is predicted only, and counts as 0.
  CHECK(macro_f1(sure(4, {0, 0, 1}, {0, 2, 1})) == Approx((2.0 / 3 + 1 + 0) / 3));
  // Equal logits predict the first class.
  CHECK(macro_f1(binary({0, 0}, {0, 0})) == 1);
}

TEST_CASE("auc of two classes takes the values computed by hand", "[learn][metrics]") {
  CHECK(auc(binary({0, 0, 1, 1}, {-2, -1, 1, 2})) == 1);
  CHECK(auc(binary({1, 1, 0, 0}, {-2, -1, 1, 2})) == 0);
  // Pairs (positive, negative): (0.35, 0.1) (0.8, 0.1) (0.8, 0.4) in order, (0.35, 0.4) not.
  CHECK(auc(binary({0, 0, 1, 1}, {0.1F, 0.4F, 0.35F, 0.8F})) == 0.75);
  // All equal: every pair counts a half. One tie of four pairs otherwise in order: 3.5 / 4.
  CHECK(auc(binary({0, 1, 0, 1, 1}, {3, 3, 3, 3, 3})) == 0.5);
  CHECK(auc(binary({0, 0, 1, 1}, {-1, 2, 2, 3})) == 0.875);
  // Margins at which the probability is 1 in float64 are still told apart.
  CHECK(auc(binary({0, 1}, {100, 101})) == 1);
}

TEST_CASE("auc of several classes is the mean of one against the rest", "[learn][metrics]") {
  CHECK(auc(sure(3, {0, 1, 2}, {0, 1, 2})) == 1);
  // Class 0: right once, a tie elsewhere. Scores for 0: labels 0, 0, 1, 2 predicted 0, 1, 1, 2:
  // positives {high, low}, negatives {low, low}: (1 + 1 + 0.5 + 0.5) / 4 = 0.75.
  // Class 1: positive {high}, negatives {low, high, low}: (1 + 0.5 + 1) / 3.  Class 2: 1.
  CHECK(auc(sure(3, {0, 0, 1, 2}, {0, 1, 1, 2})) == Approx((0.75 + 2.5 / 3 + 1) / 3));
  // Class 2 is not among the labels and is left out, though it is predicted. Class 0: positive
  // high, negatives low, low. Class 1: positives {low, high}, negative low: 0.75.
  CHECK(auc(sure(3, {0, 1, 1}, {0, 2, 1})) == Approx((1 + 0.75) / 2));
}

TEST_CASE("what is not defined is not a number", "[learn][metrics]") {
  CHECK(std::isnan(auc(binary({1, 1}, {0, 1}))));
  CHECK(std::isnan(auc(sure(3, {1, 1}, {0, 1}))));
  CHECK(std::isnan(auc(Predictions{2, {}, {}})));
  CHECK(std::isnan(macro_f1(Predictions{2, {}, {}})));
  CHECK(std::isnan(auc(sure(1, {0}, {0}))));
  for (const float wrong : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    CHECK(std::isnan(auc(binary({0, 1, 0}, {0, 1, wrong}))));
    CHECK(std::isnan(macro_f1(binary({0, 1, 0}, {0, 1, wrong}))));
  }
}
