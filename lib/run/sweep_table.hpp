// The table of a sweep: a row a cell, with means and intervals over its seeds (docs/sweep.md).
#pragma once

#include <string>
#include <vector>

#include "run/sweep.hpp"
#include "run/sweep_outcome.hpp"
#include "run/sweep_statistics.hpp"

namespace fedctl::run {

struct CellRow {
  std::size_t cell = 0;  // its number
  std::size_t done = 0, failed = 0;
  Interval metric;                         // over its runs that are done
  Interval difference;                     // to the first cell, by seeds that both have
  Interval bytes_up, bytes_down, seconds;  // of the same runs
};
// `outcomes` by run.
std::vector<CellRow> rows_of(const Sweep& sweep, const std::vector<Outcome>& outcomes);

// table.csv: a row a cell, then one a failed run. Without times: the same from every executor.
std::string table_csv(const Sweep& sweep, const std::vector<CellRow>& rows,
                      const std::vector<Outcome>& outcomes);
std::string runs_csv(const Sweep& sweep, const std::vector<Outcome>& outcomes);
std::string times_csv(const Sweep& sweep, const std::vector<CellRow>& rows);
// For people; `markdown` or in columns.
std::string table_text(const Sweep& sweep, const std::vector<CellRow>& rows,
                       const std::vector<Outcome>& outcomes, bool markdown);
// One object a line, with the keys of table.csv and `seconds`.
std::string table_json(const Sweep& sweep, const std::vector<CellRow>& rows,
                       const std::vector<Outcome>& outcomes);
// The metric against bytes of both directions, a mark a cell with its interval.
std::string table_svg(const Sweep& sweep, const std::vector<CellRow>& rows);

}  // namespace fedctl::run
