#include <catch2/catch.hpp>

#include "base/errors.hpp"
#include "talk/endpoint.hpp"

using namespace fedctl;
using talk::refusal_of;

namespace {

template <class E>
std::optional<std::string> refusal_by() {
  return refusal_of([] { throw E("why"); });
}

}  // namespace

TEST_CASE("whatever is wrong with an answer is the answer's fault", "[talk][refusal]") {
  CHECK(refusal_of([] {}) == std::nullopt);
  CHECK(refusal_by<WireError>() == "why");
  CHECK(refusal_by<ProtocolError>() == "why");
  CHECK(refusal_by<DataError>() == "why");
  CHECK(refusal_by<ConfigError>() == "why");
  CHECK(refusal_by<Error>() == "why");
}

TEST_CASE("a disk that fails is not", "[talk][refusal]") {
  CHECK_THROWS_AS(refusal_by<RunDirectoryError>(), RunDirectoryError);
}
