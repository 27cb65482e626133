// LearnerPool: as many learners as there are worker threads, all on one frozen base, lent to
// whoever trains or evaluates next. A client costs no learner while it waits.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "learn/learner.hpp"
#include "learn/metrics.hpp"

namespace fedctl::learn {

class LearnerPool {
 public:
  // Makes learners when they are first needed, at most `count_max` (> 0).
  LearnerPool(std::unique_ptr<LearnerFactory> factory, std::size_t count_max);

  // A learner for one piece of work. Its weights are whatever the last user left: set them first.
  // Never held across an await.
  class Lease {
   public:
    Lease(LearnerPool& pool, std::unique_ptr<Learner> learner)
        : pool_(pool), learner_(std::move(learner)) {}
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Learner& operator*() { return *learner_; }
    Learner* operator->() { return learner_.get(); }

   private:
    LearnerPool& pool_;
    std::unique_ptr<Learner> learner_;
  };
  Lease acquire();  // blocks while all are lent

  std::size_t count_max() const { return count_max_; }
  // From now on so many learners (> 0) with so many threads each. Precondition: none is lent.
  void share_cores(std::size_t count_max, std::size_t threads_each);

 private:
  std::unique_ptr<LearnerFactory> factory_;
  std::size_t count_max_;
  std::size_t threads_each_ = 1;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Learner>> idle_;
  std::size_t made_ = 0;
};

// Cut into batches of batch_size (> 0), the last maybe smaller.
std::vector<std::vector<std::size_t>> batches_of(std::span<const std::size_t> indices,
                                                 std::size_t batch_size);

// Scores of `weights` on the examples, in batches of at most batch_size, on all of the pool's
// learners at once. Batches and the order of the sum depend on the data alone, so the result does
// not depend on the number of learners. `predictions`, for task classify, in the order of indices;
// throws DataError if the model's outputs are not the data's classes.
Scores evaluate(LearnerPool& pool, std::span<const float> weights, const data::Dataset& data,
                std::span<const std::size_t> indices, std::size_t batch_size,
                Predictions* predictions = nullptr);

// The same with one learner and the weights it has.
Scores evaluate(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                std::size_t batch_size);

}  // namespace fedctl::learn
