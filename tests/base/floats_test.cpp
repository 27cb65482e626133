#include "base/floats.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

using namespace fedctl;

TEST_CASE("the first value that is not finite is found wherever it stands", "[base][floats]") {
  CHECK_FALSE(first_not_finite({}).has_value());
  std::vector<float> values(5000, -std::numeric_limits<float>::max());
  values[7] = std::numeric_limits<float>::denorm_min();
  values[8] = -0.0F;
  CHECK_FALSE(first_not_finite(values).has_value());
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinity, -kInfinity, std::nanf("1"), -std::nanf("")}) {
    for (const std::size_t at :
         {std::size_t{0}, std::size_t{1023}, std::size_t{1024}, std::size_t{4999}}) {
      std::vector<float> spoiled = values;
      spoiled[at] = bad;
      spoiled[4999] = bad;
      CHECK(first_not_finite(spoiled) == at);
    }
  }
}
