#include "run/sweep_table.hpp"

#include <catch2/catch.hpp>
#include <cmath>

using namespace fedctl::run;

namespace {

Sweep two_cells() {
  Sweep sweep;
  sweep.name = "s";
  sweep.metric = "loss";
  sweep.seeds = {1, 2, 3};
  sweep.cells.resize(2);
  sweep.cells[0] = {{{"a.lr", "0.1", "", ""}}, "", "x"};
  sweep.cells[1] = {{{"a.lr", "[1, 2]", "", ""}}, "", "y"};
  return sweep;
}

Outcome done(double metric, std::uint64_t up) {
  Outcome outcome;
  outcome.state = Outcome::State::done;
  outcome.metric = metric;
  outcome.bytes_up = up;
  outcome.bytes_down = 2 * up;
  outcome.seconds = 1;
  return outcome;
}

Outcome failed(int status, const std::string& message) {
  Outcome outcome;
  outcome.state = Outcome::State::failed;
  outcome.status = status;
  outcome.message = message;
  return outcome;
}

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++count;
  return count;
}

}  // namespace

TEST_CASE("differences are taken by seed: what seeds have in common cancels", "[sweep]") {
  const Sweep sweep = two_cells();
  const std::vector<CellRow> rows = rows_of(
      sweep, {done(1, 10), done(5, 10), done(9, 10), done(2, 30), done(6, 30), done(10, 30)});
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].metric.mean == 5);
  CHECK(*rows[0].metric.half_width > 9);
  CHECK(rows[0].difference.count == 0);
  CHECK(rows[1].difference.mean == 1);
  CHECK(*rows[1].difference.half_width == 0);
  CHECK(rows[1].bytes_up.mean == 30);
}

TEST_CASE("a seed that one of the two cells lacks is not in their difference", "[sweep]") {
  const Sweep sweep = two_cells();
  const std::vector<CellRow> rows =
      rows_of(sweep, {done(1, 10), failed(1, "x"), done(9, 10), done(2, 30), done(60, 30), {}});
  CHECK(rows[0].done == 2);
  CHECK(rows[0].failed == 1);
  CHECK(rows[1].metric.count == 2);
  CHECK(rows[1].difference.count == 1);
  CHECK(rows[1].difference.mean == 1);
  CHECK_FALSE(rows[1].difference.half_width);
}

TEST_CASE("a failed run is a row of its own, and fields with commas are quoted", "[sweep]") {
  const Sweep sweep = two_cells();
  const std::vector<Outcome> outcomes = {
      done(1, 10), done(2, 10), done(3, 10), done(2, 30), failed(5, "no \"x\", no y"), done(4, 30)};
  const std::string csv = table_csv(sweep, rows_of(sweep, outcomes), outcomes);
  CHECK(csv.starts_with("row,cell,a.lr,seed,seeds,done,failed,loss_mean,loss_half_width_95,"));
  CHECK_THAT(csv, Catch::Contains("\ncell,0,0.1,,3,3,0,2,"));
  CHECK_THAT(csv, Catch::Contains("\ncell,1,\"[1, 2]\",,3,2,1,3,"));
  CHECK(csv.ends_with("\nfailed,1,\"[1, 2]\",2,,,,,,,,,,5,\"no \"\"x\"\", no y\"\n"));
  CHECK_THAT(table_text(sweep, rows_of(sweep, outcomes), outcomes, false),
             Catch::Contains("failed: a.lr=[1, 2] seed 2: exit status 5: no \"x\", no y"));
}

TEST_CASE("times stand in a file of their own", "[sweep]") {
  const Sweep sweep = two_cells();
  std::vector<Outcome> outcomes(6, done(1, 10));
  const std::string csv = table_csv(sweep, rows_of(sweep, outcomes), outcomes);
  const std::string runs = runs_csv(sweep, outcomes);
  for (Outcome& outcome : outcomes) outcome.seconds = 7;
  CHECK(table_csv(sweep, rows_of(sweep, outcomes), outcomes) == csv);
  CHECK(runs_csv(sweep, outcomes) == runs);
  CHECK_THAT(times_csv(sweep, rows_of(sweep, outcomes)), Catch::Contains("0,0.1,7,0\n"));
}

TEST_CASE("the plot has a mark a cell, also where all values are equal or none is there",
          "[sweep]") {
  const Sweep sweep = two_cells();
  const std::vector<Outcome> same(6, done(1, 10));
  const std::string svg = table_svg(sweep, rows_of(sweep, same));
  CHECK(count_of(svg, "<circle") == 4);  // two marks, two in the legend
  CHECK(count_of(svg, "nan") == 0);
  CHECK(count_of(svg, "inf") == 0);
  const std::string wide = table_svg(
      sweep, rows_of(sweep, {done(1, 10), done(1, 10), done(1, 10), done(2, 90000), {}, {}}));
  CHECK(count_of(wide, "<circle") == 4);
  CHECK(count_of(table_svg(sweep, rows_of(sweep, std::vector<Outcome>(6))), "<circle") == 0);
}
