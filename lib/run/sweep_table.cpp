// The table of a sweep for people.
#include "run/sweep_table.hpp"

#include <algorithm>
#include <cmath>

#include "run/printer.hpp"
#include "run/text.hpp"

namespace fedctl::run {
namespace {

using Line = std::vector<std::string>;

std::string with_half_width(const Interval& interval) {
  if (interval.count == 0) return "-";
  if (!interval.half_width) return print("%.5g", interval.mean);
  return print("%.5g ± %.2g", interval.mean, *interval.half_width);
}

std::string bytes_of(const Interval& interval) {
  if (interval.count == 0) return "-";
  return bytes_text(static_cast<std::uint64_t>(std::llround(interval.mean)));
}

// "lr" of "train.optimizer.lr", where no other key ends in it.
std::string short_key(const std::string& key, const std::vector<std::string>& keys) {
  const std::string last = key.substr(key.rfind('.') + 1);
  const auto same = [&](const std::string& other) {
    return other.substr(other.rfind('.') + 1) == last;
  };
  return std::ranges::count_if(keys, same) > 1 ? key : last;
}

// Characters on the screen, for UTF-8 without wide ones.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string in_columns(const std::vector<Line>& lines) {
  std::vector<std::size_t> widths(lines.front().size());
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max(widths[i], width_of(line[i]));
  }
  std::string text;
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      text += std::string(widths[i] - width_of(line[i]) + (i == 0 ? 0 : 2), ' ') + line[i];
    }
    text += '\n';
  }
  return text;
}

std::string in_markdown(const std::vector<Line>& lines) {
  std::string text;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    text += '|';
    for (std::string field : lines[i]) {
      for (std::size_t at = 0; (at = field.find('|', at)) != std::string::npos; at += 2) {
        field.insert(at, "\\");
      }
      text.append(" ").append(field).append(" |");
    }
    text += '\n';
    if (i > 0) continue;
    text += '|';
    for (std::size_t column = 0; column < lines[0].size(); ++column) text += "---:|";
    text += '\n';
  }
  return text;
}

}  // namespace

std::string table_text(const Sweep& sweep, const std::vector<CellRow>& rows,
                       const std::vector<Outcome>& outcomes, bool markdown) {
  const std::vector<std::string> keys = sweep.keys();
  std::vector<Line> lines(1);
  for (const std::string& key : keys) lines[0].push_back(short_key(key, keys));
  for (const char* title : {"seeds", "", "difference", "up", "down", "seconds"}) {
    lines[0].emplace_back(*title == '\0' ? sweep.metric : title);
  }
  for (const CellRow& row : rows) {
    Line line;
    for (const std::string& key : keys) {
      const Setting* setting = sweep.cells[row.cell].find(key);
      line.push_back(setting == nullptr ? "-" : setting->value);
    }
    line.push_back(std::to_string(row.done) + '/' + std::to_string(sweep.seeds.size()));
    line.push_back(with_half_width(row.metric));
    line.push_back(row.cell == 0 ? "" : with_half_width(row.difference));
    line.push_back(bytes_of(row.bytes_up));
    line.push_back(bytes_of(row.bytes_down));
    line.push_back(row.seconds.count == 0 ? "-" : print("%.3g", row.seconds.mean));
    lines.push_back(std::move(line));
  }
  std::string text = markdown ? in_markdown(lines) + '\n' : in_columns(lines);
  text +=
      "mean over seeds ± half width of the 95 % interval (Student's t); difference: to the first "
      "row, by the same seeds\n";
  for (std::size_t run = 0; run < outcomes.size(); ++run) {
    if (outcomes[run].state != Outcome::State::failed) continue;
    text += std::string(markdown ? "\n" : "") + "failed: " + sweep.cell_of(run).label() + " seed " +
            std::to_string(sweep.seed_of(run)) + ": exit status " +
            std::to_string(outcomes[run].status) + ": " + outcomes[run].message + '\n';
  }
  return text;
}

}  // namespace fedctl::run
