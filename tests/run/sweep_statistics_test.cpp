#include "run/sweep_statistics.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <utility>
#include <vector>

using namespace fedctl::run;

TEST_CASE("quantiles of Student's t are those of the tables", "[sweep][golden]") {
  // Published quantiles; Simpson's rule on the density in Python gives 0.95 within 1e-13.
  const std::vector<std::pair<std::size_t, double>> table = {
      {1, 12.7062047361747},   {2, 4.30265272974946},  {3, 3.18244630528371},
      {4, 2.77644510519779},   {5, 2.57058183563631},  {9, 2.2621571627982},
      {10, 2.22813885198627},  {30, 2.04227245630124}, {100, 1.98397151852355},
      {1000, 1.96233908082641}};
  for (const auto& [degrees, t] : table) {
    INFO(degrees);
    CHECK(student_t(0.95, degrees) == Approx(t).epsilon(1e-12));
  }
  CHECK(student_t(0.99, 2) == Approx(9.92484320091829).epsilon(1e-12));
  CHECK(student_t(0.99, 10) == Approx(3.16927267261695).epsilon(1e-12));
}

TEST_CASE("an interval is t times the standard error", "[sweep]") {
  const Interval interval = interval_of(std::vector<double>{1, 2, 3, 4});
  CHECK(interval.count == 4);
  CHECK(interval.mean == 2.5);
  // s = sqrt(5/3)
  CHECK(*interval.half_width == Approx(3.18244630528371 * std::sqrt(5.0 / 3) / 2));
}

TEST_CASE("one value has a mean and no interval, none has neither", "[sweep]") {
  const Interval one = interval_of(std::vector<double>{7});
  CHECK(one.mean == 7);
  CHECK_FALSE(one.half_width);
  CHECK(interval_of({}).count == 0);
  CHECK(*interval_of(std::vector<double>{3, 3, 3}).half_width == 0);
}
