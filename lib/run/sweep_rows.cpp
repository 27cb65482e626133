// Rows of a sweep's table, and the files that other programs read.
#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>

#include "run/sweep_table.hpp"

namespace fedctl::run {
namespace {

using State = Outcome::State;

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string field = "\"";
  for (const char c : text) field += c == '"' ? std::string("\"\"") : std::string(1, c);
  return field + '"';
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (std::size_t i = 0; i < fields.size(); ++i)
    line += (i == 0 ? "" : ",") + csv_field(fields[i]);
  return line + '\n';
}

// The shortest digits that read back as the same float64.
std::string real(double value) {
  char text[64];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}
std::string real(const std::optional<double>& value) { return value ? real(*value) : ""; }
std::string mean_of(const Interval& interval) {
  return interval.count == 0 ? "" : real(interval.mean);
}

std::vector<std::string> values_of(const Sweep& sweep, const Cell& cell) {
  std::vector<std::string> values;
  for (const std::string& key : sweep.keys()) {
    const Setting* setting = cell.find(key);
    values.push_back(setting == nullptr ? "" : setting->value);
  }
  return values;
}

std::vector<std::size_t> failed_runs(const std::vector<Outcome>& outcomes) {
  std::vector<std::size_t> runs;
  for (std::size_t run = 0; run < outcomes.size(); ++run) {
    if (outcomes[run].state == State::failed) runs.push_back(run);
  }
  return runs;
}

template <class... Parts>
std::vector<std::string> joined(const Parts&... parts) {
  std::vector<std::string> all;
  (all.insert(all.end(), parts.begin(), parts.end()), ...);
  return all;
}
using Fields = std::vector<std::string>;

}  // namespace

std::vector<CellRow> rows_of(const Sweep& sweep, const std::vector<Outcome>& outcomes) {
  const std::size_t seeds = sweep.seeds.size();
  const auto metric_at = [&](std::size_t cell, std::size_t seed) {
    const Outcome& outcome = outcomes[cell * seeds + seed];
    return outcome.state == State::done ? outcome.metric : std::nullopt;
  };
  std::vector<CellRow> rows;
  for (std::size_t cell = 0; cell < sweep.cells.size(); ++cell) {
    CellRow row;
    row.cell = cell;
    std::vector<double> metric, difference, up, down, seconds;
    for (std::size_t seed = 0; seed < seeds; ++seed) {
      const Outcome& outcome = outcomes[cell * seeds + seed];
      if (outcome.state == State::failed) ++row.failed;
      if (outcome.state != State::done) continue;
      ++row.done;
      up.push_back(static_cast<double>(outcome.bytes_up));
      down.push_back(static_cast<double>(outcome.bytes_down));
      seconds.push_back(outcome.seconds);
      if (!outcome.metric) continue;
      metric.push_back(*outcome.metric);
      const std::optional<double> first = metric_at(0, seed);
      if (cell > 0 && first) difference.push_back(*outcome.metric - *first);
    }
    row.metric = interval_of(metric);
    row.difference = interval_of(difference);
    row.bytes_up = interval_of(up);
    row.bytes_down = interval_of(down);
    row.seconds = interval_of(seconds);
    rows.push_back(row);
  }
  return rows;
}

std::string table_csv(const Sweep& sweep, const std::vector<CellRow>& rows,
                      const std::vector<Outcome>& outcomes) {
  const std::string& name = sweep.metric;
  std::string csv =
      csv_line(joined(Fields{"row", "cell"}, sweep.keys(),
                      Fields{"seed", "seeds", "done", "failed", name + "_mean",
                             name + "_half_width_95", "difference_mean", "difference_half_width_95",
                             "bytes_up_mean", "bytes_down_mean", "status", "message"}));
  for (const CellRow& row : rows) {
    csv += csv_line(
        joined(Fields{"cell", std::to_string(row.cell)}, values_of(sweep, sweep.cells[row.cell]),
               Fields{"", std::to_string(sweep.seeds.size()), std::to_string(row.done),
                      std::to_string(row.failed), mean_of(row.metric), real(row.metric.half_width),
                      mean_of(row.difference), real(row.difference.half_width),
                      mean_of(row.bytes_up), mean_of(row.bytes_down), "", ""}));
  }
  for (const std::size_t run : failed_runs(outcomes)) {
    csv += csv_line(joined(Fields{"failed", std::to_string(run / sweep.seeds.size())},
                           values_of(sweep, sweep.cell_of(run)),
                           Fields{std::to_string(sweep.seed_of(run))}, Fields(9),
                           Fields{std::to_string(outcomes[run].status), outcomes[run].message}));
  }
  return csv;
}

std::string runs_csv(const Sweep& sweep, const std::vector<Outcome>& outcomes) {
  std::string csv = csv_line(joined(Fields{"run", "cell"}, sweep.keys(),
                                    Fields{"seed", "state", "rounds", sweep.metric, "bytes_up",
                                           "bytes_down", "status", "message", "directory"}));
  for (std::size_t run = 0; run < outcomes.size(); ++run) {
    const Outcome& outcome = outcomes[run];
    csv += csv_line(
        joined(Fields{std::to_string(run), std::to_string(run / sweep.seeds.size())},
               values_of(sweep, sweep.cell_of(run)),
               Fields{std::to_string(sweep.seed_of(run)), name_of(outcome.state),
                      std::to_string(outcome.rounds), real(outcome.metric),
                      std::to_string(outcome.bytes_up), std::to_string(outcome.bytes_down),
                      std::to_string(outcome.status), outcome.message,
                      sweep.cell_of(run).folder + '/' + std::to_string(sweep.seed_of(run))}));
  }
  return csv;
}

std::string times_csv(const Sweep& sweep, const std::vector<CellRow>& rows) {
  std::string csv = csv_line(
      joined(Fields{"cell"}, sweep.keys(), Fields{"seconds_mean", "seconds_half_width_95"}));
  for (const CellRow& row : rows) {
    csv +=
        csv_line(joined(Fields{std::to_string(row.cell)}, values_of(sweep, sweep.cells[row.cell]),
                        Fields{mean_of(row.seconds), real(row.seconds.half_width)}));
  }
  return csv;
}

std::string table_json(const Sweep& sweep, const std::vector<CellRow>& rows,
                       const std::vector<Outcome>& outcomes) {
  using Json = nlohmann::ordered_json;
  const auto settings = [](const Cell& cell) {
    Json values = Json::object();
    for (const Setting& setting : cell.settings) values[setting.key] = setting.value;
    return values;
  };
  const auto mean = [](const Interval& i) { return i.count == 0 ? Json() : Json(i.mean); };
  const auto half = [](const Interval& i) { return i.half_width ? Json(*i.half_width) : Json(); };
  const auto line = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
  };
  std::string lines;
  for (const CellRow& row : rows) {
    lines += line({{"row", "cell"},
                   {"cell", row.cell},
                   {"set", settings(sweep.cells[row.cell])},
                   {"seeds", sweep.seeds.size()},
                   {"done", row.done},
                   {"failed", row.failed},
                   {sweep.metric + "_mean", mean(row.metric)},
                   {sweep.metric + "_half_width_95", half(row.metric)},
                   {"difference_mean", mean(row.difference)},
                   {"difference_half_width_95", half(row.difference)},
                   {"bytes_up_mean", mean(row.bytes_up)},
                   {"bytes_down_mean", mean(row.bytes_down)},
                   {"seconds_mean", mean(row.seconds)}});
  }
  for (const std::size_t run : failed_runs(outcomes)) {
    lines += line({{"row", "failed"},
                   {"cell", run / sweep.seeds.size()},
                   {"set", settings(sweep.cell_of(run))},
                   {"seed", sweep.seed_of(run)},
                   {"status", outcomes[run].status},
                   {"message", outcomes[run].message}});
  }
  return lines;
}

}  // namespace fedctl::run
