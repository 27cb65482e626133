#include <catch2/catch.hpp>

#include "aggregate/aggregator.hpp"
#include "support/plugin.hpp"

using namespace fedctl;

TEST_CASE("mean weighs by the weights", "[aggregate][mean]") {
  const auto plugin = test::plugin(aggregate::aggregator_kinds(), "mean");
  const auto mean = aggregate::aggregators().front().make(*plugin.options);
  const std::vector<float> a = {1, 0, -4}, b = {5, 1, 4};
  std::vector<float> out(3);
  mean->combine(std::vector<aggregate::Contribution>{{2, 30, a}, {9, 10, b}}, out);
  CHECK(out == std::vector<float>{2, 0.25F, -2});
}

TEST_CASE("mean adds in double, in peer order", "[aggregate][mean]") {
  const auto plugin = test::plugin(aggregate::aggregator_kinds(), "mean");
  const auto mean = aggregate::aggregators().front().make(*plugin.options);
  // In float 1e8 + 1 - 1e8 is 0.
  const std::vector<float> a = {1e8F}, b = {1}, c = {-1e8F};
  std::vector<float> out(1);
  mean->combine(std::vector<aggregate::Contribution>{{0, 1, a}, {1, 1, b}, {2, 1, c}}, out);
  CHECK(out[0] == 1.0F / 3.0F);
}
