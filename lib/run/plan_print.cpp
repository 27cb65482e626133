// How `fedctl plan` says what it found: text for people, JSON for programs, the deal as a
// partition file.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "run/plan.hpp"
#include "run/printer.hpp"
#include "run/text.hpp"

namespace fedctl::run {
namespace {

using Json = nlohmann::ordered_json;

// A matrix of more numbers than this is not printed.
constexpr std::size_t kNumbersMax = 1'000'000;
constexpr std::size_t kNameCharactersMax = 10;

std::uint64_t whole(double value) { return static_cast<std::uint64_t>(std::llround(value)); }

struct Spread {
  std::size_t min = 0, median = 0, max = 0, sum = 0;
};
Spread spread_of(std::vector<std::size_t> values) {
  Spread spread;
  if (values.empty()) return spread;
  std::ranges::sort(values);
  for (const std::size_t value : values) spread.sum += value;
  spread.min = values.front();
  spread.median = values[(values.size() - 1) / 2];
  spread.max = values.back();
  return spread;
}

// Class names come from files: nothing that moves the cursor.
std::string short_name(const std::string& name) {
  std::string text = name.substr(0, kNameCharactersMax);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

// Mean over clients of half the L1 distance between a client's labels and all labels: 0 alike, 1
// nothing in common.
double skew_of(const Histogram& histogram) {
  const std::vector<std::size_t> totals = histogram.totals();
  std::vector<double> all(histogram.columns());
  double sum = 0, distance = 0;
  for (const auto& row : histogram.counts) {
    for (std::size_t c = 0; c < row.size(); ++c) all[c] += static_cast<double>(row[c]);
  }
  for (const double count : all) sum += count;
  for (std::size_t client = 0; client < totals.size(); ++client) {
    if (totals[client] == 0 || sum == 0) continue;
    for (std::size_t c = 0; c < all.size(); ++c) {
      distance += std::abs(static_cast<double>(histogram.counts[client][c]) /
                               static_cast<double>(totals[client]) -
                           all[c] / sum) /
                  2;
    }
  }
  return totals.empty() ? 0 : distance / static_cast<double>(totals.size());
}

std::string table_of(const Histogram& histogram) {
  std::string text = print("\n%8s %9s", "client", "examples");
  std::vector<int> widths;
  for (const std::string& name : histogram.classes) {
    const std::string shown = short_name(name);
    widths.push_back(static_cast<int>(std::max<std::size_t>(5, shown.size())));
    text += print(" %*s", widths.back(), shown.c_str());
  }
  text += '\n';
  const std::vector<std::size_t> totals = histogram.totals();
  for (std::size_t client = 0; client < totals.size(); ++client) {
    text += print("%8zu %9zu", client, totals[client]);
    for (std::size_t c = 0; c < widths.size(); ++c)
      text += print(" %*zu", widths[c], histogram.counts[client][c]);
    text += '\n';
  }
  return text;
}

// For many clients or classes: how many classes a client has, and who is large and small.
std::string compact_of(const Histogram& histogram) {
  std::vector<std::size_t> present;
  for (const auto& row : histogram.counts) {
    present.push_back(static_cast<std::size_t>(
        std::ranges::count_if(row, [](std::size_t count) { return count > 0; })));
  }
  const Spread classes = spread_of(present);
  std::string text = print("classes a client   %zu / %zu / %zu of %zu (min / median / max)\n",
                           classes.min, classes.median, classes.max, histogram.columns());
  const std::vector<std::size_t> totals = histogram.totals();
  const auto largest = std::ranges::max_element(totals);
  const auto smallest = std::ranges::min_element(totals);
  text += print("largest, smallest  client %td has %zu examples, client %td has %zu\n",
                largest - totals.begin(), *largest, smallest - totals.begin(), *smallest);
  return text;
}

}  // namespace

std::string forecast_text(const Forecast& plan, const Experiment& experiment) {
  const Spread examples = spread_of(plan.histogram.totals());
  const auto rounds = static_cast<double>(plan.rounds);
  const double round_s = plan.transfer_s() + plan.train_s();
  const auto bytes = [](double count) { return bytes_text(whole(count)); };
  std::string text =
      print("%s: %s on %s, %s\n", experiment.name.c_str(), experiment.method.kind.c_str(),
            experiment.data.kind.c_str(), experiment.model.kind.c_str());
  text += print("clients            %lld, %lld a round, %lld rounds\n",
                static_cast<long long>(plan.clients), static_cast<long long>(plan.cohort),
                static_cast<long long>(plan.rounds));
  text += print("examples           %zu to train on, %zu to test on\n", examples.sum,
                plan.test_examples);
  text += print("examples a client  %zu / %zu / %zu (min / median / max)\n", examples.min,
                examples.median, examples.max);
  text += print("label skew         %.3f (0: all clients alike, 1: no label in common)\n",
                skew_of(plan.histogram));
  if (plan.histogram.large()) text += compact_of(plan.histogram);
  text += print("parameters         %zu trained, %zu frozen\n", plan.trainable, plan.base);
  text += print("bytes up           %llu a client and round (payload %llu, framing %llu)\n",
                static_cast<unsigned long long>(whole(plan.up())),
                static_cast<unsigned long long>(whole(plan.payload_up)),
                static_cast<unsigned long long>(whole(plan.framing_up)));
  text += print("bytes down         %llu a client and round (payload %llu, framing %llu)\n",
                static_cast<unsigned long long>(whole(plan.down())),
                static_cast<unsigned long long>(whole(plan.payload_down)),
                static_cast<unsigned long long>(whole(plan.framing_down)));
  if (plan.peers() > 0) {
    text += print("bytes to others    %llu a client and round, %s in all, from client to client\n",
                  static_cast<unsigned long long>(whole(plan.peers())),
                  bytes(plan.round_peers() * rounds).c_str());
  }
  text += print("bytes a round      %s up, %s down\n", bytes(plan.round_up()).c_str(),
                bytes(plan.round_down()).c_str());
  text += print("handshake          %llu bytes a client up, %llu down, once\n",
                static_cast<unsigned long long>(plan.handshake.up.sum()),
                static_cast<unsigned long long>(plan.handshake.down.sum()));
  text += print("bytes in all       %s up, %s down, handshakes included\n",
                bytes(plan.round_up() * rounds + plan.once_up()).c_str(),
                bytes(plan.round_down() * rounds + plan.once_down()).c_str());
  text +=
      print("peak memory        %s (%s now, %zu workers)\n", bytes_text(plan.peak_memory()).c_str(),
            bytes_text(plan.resident).c_str(), plan.workers);
  text += print("a server's memory  %s with %lld connections, if it evaluates without LibTorch\n",
                bytes_text(plan.server_memory()).c_str(), static_cast<long long>(plan.clients));
  text += print("time on the link   %.3f s a round at %g Mbit/s up, %g down, %g ms\n",
                plan.transfer_s(), plan.up_mbit, plan.down_mbit, plan.latency_ms);
  text += print("training           %.3f s a round: %lld steps of %.1f ms, the largest client\n",
                plan.train_s(), static_cast<long long>(plan.steps), plan.step_ms);
  text += print("time in all        %.1f s, evaluation not counted\n", round_s * rounds);
  const Simulation& here = plan.simulation;
  text +=
      print("simulated here     %.1f s in all, %s at most: %.3f s a round, %.3f s an evaluation\n",
            here.total_s(), bytes_text(here.peak_memory).c_str(), here.round_s(), here.evaluate_s);
  if (const Served& served = plan.served; served.hosts > 0) {
    text += print(
        "served here        %.1f s in all, %s at most: %.1f s to begin, %.3f s a round, %.3f s an "
        "evaluation (%lld rounds tried, clients in %zu processes)\n",
        served.total_s(), bytes_text(served.peak_memory).c_str(), served.start_s, served.round_s,
        served.evaluate_s, static_cast<long long>(served.played), served.hosts);
  }
  text += "epsilon            none\n";
  if (!plan.histogram.large()) text += table_of(plan.histogram);
  return text;
}

std::string forecast_json(const Forecast& plan, const Experiment& experiment) {
  const Spread examples = spread_of(plan.histogram.totals());
  const auto rounds = static_cast<double>(plan.rounds);
  const double round_s = plan.transfer_s() + plan.train_s();
  // `once`: handshakes of all clients.
  const auto way = [&](double payload, double framing, double round, double once) {
    return Json{{"payload", whole(payload)},       {"framing", whole(framing)},
                {"sum", whole(payload + framing)}, {"round", whole(round)},
                {"handshakes", whole(once)},       {"total", whole(round * rounds + once)}};
  };
  Json out{{"name", experiment.name},        {"method", experiment.method.kind},
           {"model", experiment.model.kind}, {"data", experiment.data.kind},
           {"rounds", plan.rounds},          {"clients", plan.clients},
           {"cohort", plan.cohort}};
  out["examples"] = {{"train", examples.sum},
                     {"test", plan.test_examples},
                     {"min", examples.min},
                     {"median", examples.median},
                     {"max", examples.max}};
  out["label_skew"] = skew_of(plan.histogram);
  out["classes"] = plan.histogram.classes;
  const bool printed = plan.histogram.counts.size() * plan.histogram.columns() <= kNumbersMax;
  out["labels"] = printed ? Json(plan.histogram.counts) : Json(nullptr);
  out["parameters"] = {{"trainable", plan.trainable}, {"base", plan.base}};
  out["bytes"] = {
      {"up", way(plan.payload_up, plan.framing_up, plan.round_up(), plan.once_up())},
      {"down", way(plan.payload_down, plan.framing_down, plan.round_down(), plan.once_down())}};
  if (plan.peers() > 0) {
    out["bytes"]["peers"] = way(plan.payload_peers, plan.framing_peers, plan.round_peers(), 0);
  }
  out["memory"] = {{"resident", plan.resident},
                   {"workers", plan.workers},
                   {"peak_estimate", plan.peak_memory()},
                   {"server_estimate", plan.server_memory()}};
  out["time"] = {{"up_mbit", plan.up_mbit},       {"down_mbit", plan.down_mbit},
                 {"latency_ms", plan.latency_ms}, {"transfer_s", plan.transfer_s()},
                 {"step_ms", plan.step_ms},       {"steps", plan.steps},
                 {"train_s", plan.train_s()},     {"round_s", round_s},
                 {"total_s", round_s * rounds}};
  const Simulation& here = plan.simulation;
  out["simulation"] = {{"start_s", here.start_s},       {"round_s", here.round_s()},
                       {"evaluate_s", here.evaluate_s}, {"evaluations", here.evaluations},
                       {"total_s", here.total_s()},     {"peak_memory", here.peak_memory}};
  if (const Served& served = plan.served; served.hosts > 0) {
    out["server"] = {{"hosts", served.hosts},
                     {"tried", served.played},
                     {"tried_s", served.played_s},
                     {"start_s", served.start_s},
                     {"round_s", served.round_s},
                     {"evaluate_s", served.evaluate_s},
                     {"evaluations", served.evaluations},
                     {"end_s", served.end_s},
                     {"total_s", served.total_s()},
                     {"peak_memory", served.peak_memory}};
  }
  out["epsilon"] = "none";
  return out.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

std::string partition_text(const std::vector<data::Share>& shares, std::size_t rows, bool json) {
  constexpr std::size_t kNobody = SIZE_MAX;
  std::vector<std::size_t> owners(rows, kNobody);
  for (std::size_t client = 0; client < shares.size(); ++client) {
    for (const auto* list : {&shares[client].train, &shares[client].holdout}) {
      for (const std::size_t row : *list) owners.at(row) = client;
    }
  }
  if (json) {
    std::vector<std::vector<std::size_t>> lists(shares.size());
    for (std::size_t row = 0; row < rows; ++row) {
      if (owners[row] != kNobody) lists[owners[row]].push_back(row);
    }
    Json out = Json::object();
    for (std::size_t client = 0; client < lists.size(); ++client)
      out[std::to_string(client)] = lists[client];
    return out.dump() + '\n';
  }
  std::string text;
  for (std::size_t row = 0; row < rows; ++row) {
    if (owners[row] == kNobody) {
      throw ConfigError("--write-partition: row " + std::to_string(row) + " belongs to no client",
                        "a file name that ends in .json can leave rows out");
    }
    text += std::to_string(owners[row]) + '\n';
  }
  return text;
}

}  // namespace fedctl::run
