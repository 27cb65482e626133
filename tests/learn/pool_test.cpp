#include "learn/pool.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <numeric>
#include <thread>

#include "base/rng.hpp"
#include "learn/points.hpp"
#include "learn/quadratic.hpp"

using namespace fedctl;
using namespace fedctl::learn;

namespace {

std::unique_ptr<LearnerFactory> factory(std::int64_t width) {
  LearnerSpec spec;
  spec.model.kind = "quadratic";
  spec.adapter.kind = "full";
  spec.data.input_shape = {width};
  return make_quadratic_factory(spec);
}

test::Points random_points(std::size_t count, std::size_t width) {
  Rng rng(3);
  std::vector<std::vector<float>> points(count, std::vector<float>(width));
  std::vector<std::size_t> lengths(count);
  for (std::size_t i = 0; i < count; ++i) {
    for (float& value : points[i]) value = static_cast<float>(rng.normal());
    lengths[i] = 1 + static_cast<std::size_t>(rng.below(3));
  }
  return {points, lengths};
}

}  // namespace

TEST_CASE("scores do not depend on the number of learners, to the last bit", "[learn][pool]") {
  const test::Points data = random_points(157, 6);
  std::vector<std::size_t> all(data.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  const std::vector<float> weights{0.3F, -1, 2, 0, 0.1F, 5};
  LearnerPool one(factory(6), 1), four(factory(6), 4);
  const Scores first = evaluate(one, weights, data, all, 10);
  CHECK(first == evaluate(four, weights, data, all, 10));
  CHECK(first.count == 157);
  CHECK(evaluate(four, weights, data, {}, 10).count == 0);
}

TEST_CASE("a pool makes no more learners than asked, and lends each to one at a time",
          "[learn][pool]") {
  LearnerPool pool(factory(2), 2);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&pool, t] {
      for (int i = 0; i < 200; ++i) {
        LearnerPool::Lease learner = pool.acquire();
        learner->weights()[0] = learner->weights()[1] = static_cast<float>(t);
        if (learner->weights()[0] != learner->weights()[1]) std::abort();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Learner* first = pool.acquire().operator->();
  LearnerPool::Lease a = pool.acquire(), b = pool.acquire();
  CHECK((a.operator->() == first || b.operator->() == first));
}

TEST_CASE("an evaluation that fails on a worker's thread fails here", "[learn][pool]") {
  const test::Points data = random_points(40, 3);  // not the model's width
  std::vector<std::size_t> all(data.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  LearnerPool pool(factory(6), 3);
  const std::vector<float> weights(6);
  CHECK_THROWS_AS(evaluate(pool, weights, data, all, 4), DataError);
}

TEST_CASE("cores can be shared in another way when no learner is lent", "[learn][pool]") {
  LearnerPool pool(factory(2), 3);
  {
    LearnerPool::Lease one = pool.acquire(), two = pool.acquire();
    one->weights()[0] = 1;
  }
  pool.share_cores(1, 3);
  CHECK(pool.count_max() == 1);
  std::atomic<bool> lent = false, second = false;
  std::thread other;
  {
    LearnerPool::Lease only = pool.acquire();
    other = std::thread([&] {
      lent = true;
      LearnerPool::Lease next = pool.acquire();
      second = true;
    });
    while (!lent) std::this_thread::yield();
    CHECK_FALSE(second);
  }
  other.join();
  CHECK(second);
}
