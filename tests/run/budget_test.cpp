#include "run/budget.hpp"

#include <catch2/catch.hpp>

#include "base/errors.hpp"

using namespace fedctl;
using namespace fedctl::run;

namespace {

std::map<talk::PeerId, talk::Crossing> round_of(std::map<talk::PeerId, std::uint64_t> bytes) {
  std::map<talk::PeerId, talk::Crossing> crossings;
  for (const auto& [peer, count] : bytes) {
    crossings[peer].up.payload = count / 2;
    crossings[peer].down.framing = count - count / 2;
  }
  return crossings;
}

Budget budget_of(std::int64_t total, std::int64_t per_client, double wall_s) {
  BudgetOptions options;
  options.total_bytes = total;
  options.per_client_bytes = per_client;
  options.wall_s = wall_s;
  return Budget(options);
}

}  // namespace

TEST_CASE("a budget of bytes leaves room for a round like the largest", "[run][budget]") {
  Budget budget = budget_of(100, 0, 0);
  CHECK(!budget.next_exceeds());  // nothing is known of the first round
  budget.add(round_of({{0, 30}, {1, 5}}), 1);
  CHECK(!budget.next_exceeds());
  budget.add(round_of({{0, 20}, {-2, 10}}), 1);  // 65 so far, a stranger's among them
  CHECK(!budget.next_exceeds());                 // 65 + 35 is 100
  budget.add(round_of({{1, 1}}), 1);
  REQUIRE(budget.next_exceeds());
  CHECK(budget.next_exceeds()->text ==
        "budget.total_bytes is 100, 66 are spent, and the next round may take 35");
  CHECK(!budget.next_exceeds()->time);
}

TEST_CASE("handshakes are spent, but not forecast", "[run][budget]") {
  Budget budget = budget_of(100, 60, 0);
  auto first = round_of({{0, 10}, {1, 10}});
  first[0].down.control = first[1].down.control = 20;
  budget.add(first, 1);  // 60 so far
  CHECK(!budget.next_exceeds());
  budget.add(round_of({{0, 10}, {1, 10}}), 1);
  CHECK(!budget.next_exceeds());  // 80 and 20 are 100
  budget.add(round_of({{0, 11}}), 1);
  REQUIRE(budget.next_exceeds());
  CHECK_THAT(budget.next_exceeds()->text, Catch::Contains("91 are spent"));
  // Later control bytes may come again.
  auto later = round_of({});
  later[0].up.control = 30;
  Budget other = budget_of(99, 0, 0);
  other.add(round_of({{0, 10}}), 1);
  other.add(later, 1);
  CHECK(!other.next_exceeds());  // 40 and 30
  other.add(later, 1);
  CHECK(other.next_exceeds());
}

TEST_CASE("a client's budget is that of the one that spent most", "[run][budget]") {
  Budget budget = budget_of(0, 50, 0);
  budget.add(round_of({{0, 20}, {1, 10}}), 1);
  budget.add(round_of({{1, 20}}), 1);
  CHECK(!budget.next_exceeds());
  budget.add(round_of({{1, 1}}), 1);
  REQUIRE(budget.next_exceeds());
  CHECK_THAT(budget.next_exceeds()->text, Catch::Contains("client 1 has spent 31"));
}

TEST_CASE("a budget of time, and one that goes on from a checkpoint", "[run][budget]") {
  Budget first = budget_of(1000, 1000, 10);
  first.add(round_of({{0, 20}, {7, 10}}), 3);
  first.add(round_of({{0, 20}}), 2);
  CHECK(!first.next_exceeds());
  Budget second = budget_of(1000, 45, 10);
  second.load(first.save());
  CHECK(second.save() == first.save());
  REQUIRE(second.next_exceeds());
  CHECK_THAT(second.next_exceeds()->text, Catch::Contains("client 0 has spent 40"));
  first.add({}, 2.5);
  REQUIRE(first.next_exceeds());
  CHECK(first.next_exceeds()->time);
  CHECK_THAT(first.next_exceeds()->text, Catch::Contains("7.5 s are spent"));
  CHECK(!budget_of(0, 0, 0).next_exceeds());
  wire::Message bad = first.save();
  bad.tensors.clear();
  CHECK_THROWS_AS(second.load(bad), WireError);
}
