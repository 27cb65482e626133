#include "methods/detail/holdout.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fedctl::methods {
namespace {

constexpr const char* kCorrect = "holdout_correct";
constexpr const char* kCount = "holdout_count";
constexpr const char* kLoss = "holdout_loss";

}  // namespace

std::optional<learn::Scores> score_holdout(std::span<const float> weights, ClientContext& ctx) {
  const JobPlan& plan = ctx.plan;
  learn::LearnerPool::Lease learner = ctx.learners.acquire();
  std::ranges::copy(weights, learner->weights().begin());
  const learn::Scores scores = learn::evaluate(
      *learner, ctx.data, ctx.holdout, static_cast<std::size_t>(plan.evaluation.batch_size));
  if (scores.count == 0 || !std::isfinite(scores.loss_sum)) return std::nullopt;
  return scores;
}

void add_holdout(Message& answer, const learn::Scores& scores) {
  answer.scalars[kCorrect] = scores.correct;
  answer.scalars[kCount] = scores.count;
  answer.scalars[kLoss] = scores.loss_sum;
}

std::optional<learn::Scores> reported_holdout(const Message& answer) {
  if (!answer.scalars.contains(kCount)) return std::nullopt;
  const wire::Expect fields(answer, answer.kind);
  learn::Scores scores;
  scores.count = fields.integer(kCount, 1, limits::kExamplesMax);
  scores.correct = fields.integer(kCorrect, 0, scores.count);
  scores.loss_sum = fields.real(kLoss);
  if (scores.loss_sum < 0) {
    throw ProtocolError('"' + answer.kind + "\", scalar \"" + kLoss + "\" is negative");
  }
  return scores;
}

}  // namespace fedctl::methods
