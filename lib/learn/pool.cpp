#include "learn/pool.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "base/assert.hpp"

namespace fedctl::learn {
namespace {

// Scores the batch and puts its labels and logits at the examples first, first + 1, ...
Scores predict(Learner& learner, const data::Batch& batch, std::size_t first, std::size_t count,
               Predictions& predictions) {
  Tensor logits;
  const Scores scores = learner.evaluate(batch, logits);
  const Shape expected = {static_cast<std::int64_t>(count), predictions.classes};
  if (logits.shape != expected) {
    throw DataError("the model's output is " + to_string(logits.shape) + ", the metrics expect " +
                    to_string(expected) + ", a row for each example");
  }
  const auto width = static_cast<std::size_t>(predictions.classes);
  std::ranges::copy(batch.at("labels").i64(),
                    std::span(predictions.labels).subspan(first, count).begin());
  std::ranges::copy(logits.f32(),
                    std::span(predictions.logits).subspan(first * width, count * width).begin());
  return scores;
}

}  // namespace

std::vector<std::vector<std::size_t>> batches_of(std::span<const std::size_t> indices,
                                                 std::size_t batch_size) {
  FEDCTL_ASSERT(batch_size > 0);
  std::vector<std::vector<std::size_t>> batches;
  for (std::size_t first = 0; first < indices.size(); first += batch_size) {
    const auto batch = indices.subspan(first, std::min(batch_size, indices.size() - first));
    batches.emplace_back(batch.begin(), batch.end());
  }
  return batches;
}

LearnerPool::LearnerPool(std::unique_ptr<LearnerFactory> factory, std::size_t count_max)
    : factory_(std::move(factory)), count_max_(count_max) {
  FEDCTL_ASSERT(count_max_ > 0);
}

LearnerPool::Lease::~Lease() {
  {
    const std::scoped_lock lock(pool_.mutex_);
    pool_.idle_.push_back(std::move(learner_));
  }
  pool_.returned_.notify_one();
}

LearnerPool::Lease LearnerPool::acquire() {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [&] { return !idle_.empty() || made_ < count_max_; });
  if (idle_.empty()) {
    idle_.push_back(factory_->make());  // under the lock: factories need not be reentrant
    ++made_;
  }
  std::unique_ptr<Learner> learner = std::move(idle_.back());
  idle_.pop_back();
  learner->set_threads(threads_each_);
  return {*this, std::move(learner)};
}

void LearnerPool::share_cores(std::size_t count_max, std::size_t threads_each) {
  const std::scoped_lock lock(mutex_);
  FEDCTL_ASSERT(count_max > 0 && idle_.size() == made_);
  count_max_ = count_max;
  threads_each_ = threads_each;
  idle_.resize(std::min(idle_.size(), count_max));
  made_ = idle_.size();
}

Scores evaluate(LearnerPool& pool, std::span<const float> weights, const data::Dataset& data,
                std::span<const std::size_t> indices, std::size_t batch_size,
                Predictions* predictions) {
  const auto batches = batches_of(indices, batch_size);
  if (predictions != nullptr) {
    predictions->classes = static_cast<std::int64_t>(data.info().classes.size());
    predictions->labels.resize(indices.size());
    predictions->logits.resize(indices.size() * data.info().classes.size());
  }
  std::vector<Scores> scores(batches.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    LearnerPool::Lease learner = pool.acquire();
    std::ranges::copy(weights, learner->weights().begin());
    for (std::size_t i = next++; i < batches.size(); i = next++) {
      const data::Batch batch = data.gather(batches[i]);
      scores[i] = predictions == nullptr
                      ? learner->evaluate(batch)
                      : predict(*learner, batch, i * batch_size, batches[i].size(), *predictions);
    }
  };
  std::vector<std::exception_ptr> errors(std::min(pool.count_max(), batches.size()));
  std::vector<std::thread> threads;
  for (std::size_t t = 1; t < errors.size(); ++t) {
    threads.emplace_back([&, t] {
      try {
        work();
      } catch (...) {
        errors[t] = std::current_exception();
      }
    });
  }
  try {
    if (!batches.empty()) work();
  } catch (...) {
    errors[0] = std::current_exception();
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  Scores sum;
  for (const Scores& part : scores) sum += part;
  return sum;
}

Scores evaluate(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                std::size_t batch_size) {
  Scores sum;
  for (const auto& batch : batches_of(indices, batch_size)) {
    sum += learner.evaluate(data.gather(batch));
  }
  return sum;
}

}  // namespace fedctl::learn
