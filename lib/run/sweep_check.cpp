// Every cell of a sweep, checked before the first run.
#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "base/digest.hpp"
#include "base/errors.hpp"
#include "config/document.hpp"
#include "run/commands.hpp"
#include "run/sweep.hpp"

namespace fedctl::run {
namespace {

constexpr std::size_t kSlugBytesMax = 60, kDigestDigits = 8;

// The message with its place in the sweep file: that of the setting that --set would name, or else
// of the cell.
std::string with_place(const Sweep& sweep, const Cell& cell, const std::string& message) {
  std::string text = message;
  std::string place = cell.place;
  for (const Settings* settings : {&cell.settings, &sweep.set}) {
    for (const Setting& setting : *settings) {
      const std::string start = config::override_place(setting.key, setting.value) + ": ";
      if (!message.starts_with(start)) continue;
      text = message.substr(start.size());
      place = text.starts_with("unknown key") ? setting.key_place : setting.place;
    }
  }
  return place + ": cell \"" + cell.label() + "\": " + text;
}

// "lr=0.01,alpha=1-0f3a9c21": for people, and for the effective experiment.
std::string folder_of(const Cell& cell, Experiment experiment) {
  std::string slug;
  for (const Setting& setting : cell.settings) {
    const std::string word = setting.key.substr(setting.key.rfind('.') + 1);
    slug += (slug.empty() ? "" : ",") + word + '=' + setting.value;
  }
  if (slug.empty()) slug = "all";
  slug = slug.substr(0, kSlugBytesMax);
  std::ranges::replace_if(
      slug,
      [](unsigned char c) {
        return std::isalnum(c) == 0 && c != '.' && c != '=' && c != ',' && c != '_' && c != '-';
      },
      '_');
  experiment.seed = 0;
  const std::string text = plan_text(experiment);
  return slug + '-' + digest_of(as_bytes_of(text)).substr(0, kDigestDigits);
}

void check_metric(const std::string& metric, const EvaluateOptions& evaluate) {
  const bool asked = metric == "f1" || metric == "auc" || metric == "exact_match";
  if (asked && std::ranges::find(evaluate.metrics, metric) == evaluate.metrics.end()) {
    throw ConfigError("the sweep's metric is " + metric + ", but evaluate.metrics does not name it",
                      "set: {evaluate.metrics: [" + metric + "]}");
  }
  if (metric.starts_with("client_") && evaluate.on == "server") {
    throw ConfigError("the sweep's metric is " + metric + ", but evaluate.on is server",
                      "set: {evaluate.on: both}");
  }
}

}  // namespace

std::vector<std::string> check_sweep(Sweep& sweep, const Overrides& environment) {
  config::Source source = config::read_source(sweep.experiment);
  std::map<std::string, const Cell*> folders;
  std::vector<std::string> all_warnings;
  for (Cell& cell : sweep.cells) {
    source.overrides = environment;
    for (const Settings* settings : {&std::as_const(sweep.set), &std::as_const(cell.settings)}) {
      for (const auto& setting : *settings) {
        source.overrides.emplace_back(setting.key, setting.value);
      }
    }
    source.overrides.emplace_back("seed", std::to_string(sweep.seeds.front()));
    try {
      const Experiment experiment = check_experiment(source);
      check_metric(sweep.metric, experiment.evaluate);
      cell.folder = folder_of(cell, experiment);
      for (std::string& line : warnings(experiment)) {
        if (std::ranges::find(all_warnings, line) == all_warnings.end()) {
          all_warnings.push_back(std::move(line));
        }
      }
    } catch (const ConfigError& error) {
      throw ConfigError(with_place(sweep, cell, error.what()), error.hint());
    } catch (const DataError& error) {
      throw DataError(with_place(sweep, cell, error.what()), error.hint());
    }
    const auto [same, added] = folders.emplace(cell.folder, &cell);
    if (!added) {
      throw ConfigError(cell.place + ": cell \"" + cell.label() +
                            "\" is the same experiment as \"" + same->second->label() + "\" at " +
                            same->second->place,
                        "remove one of the two");
    }
  }
  return all_warnings;
}

}  // namespace fedctl::run
