#include "run/sweep_outcome.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "journal/journal.hpp"
#include "run/process.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;
using State = Outcome::State;

std::optional<double> number_at(const nlohmann::json& line, const std::string& metric) {
  const std::size_t dot = metric.find('.');
  const auto found = line.find(metric.substr(0, dot));
  if (found == line.end()) return std::nullopt;
  if (dot != std::string::npos && found->is_object()) {
    return number_at(*found, metric.substr(dot + 1));
  }
  return found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
}

std::optional<int> saved_status(const std::string& directory) {
  std::ifstream in(directory + '/' + kStatusName);
  int status = 0;
  return in >> status ? std::optional(status) : std::nullopt;
}

bool holds_checkpoint(const std::string& directory) {
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(directory + "/checkpoint", absent)) {
    if (entry.path().extension() != ".tmp") return true;
  }
  return false;
}

void add_round(const nlohmann::json& line, const std::string& metric, Outcome& outcome) {
  outcome.rounds = line.value("round", std::int64_t{0});
  outcome.bytes_up = line.value("bytes_up_total", std::uint64_t{0});
  outcome.bytes_down = line.value("bytes_down_total", std::uint64_t{0});
  outcome.seconds += line.value("round_ms", 0.0) / 1e3;
  if (const std::optional<double> value = number_at(line, metric)) outcome.metric = value;
}

void read_journal(const std::string& path, const std::string& metric, Outcome& outcome) {
  for (const std::string& text : journal::read_lines(path)) {
    const nlohmann::json line = nlohmann::json::parse(text);
    const std::string event = line.value("event", "");
    if (event == "round") add_round(line, metric, outcome);
    const std::string status = event == "end" ? line.value("status", "") : "";
    outcome.state = status == "done" || status == "budget" ? State::done : State::unfinished;
  }
}

}  // namespace

Outcome read_outcome(const std::string& directory, const std::string& metric) {
  Outcome outcome;
  const std::string journal = directory + "/journal.jsonl";
  if (fs::exists(journal)) {
    try {
      read_journal(journal, metric, outcome);
    } catch (const std::exception& error) {  // a damaged run is a row like any other
      outcome.state = State::failed;
      outcome.message = error.what();
    }
    outcome.start = Start::resume;
    if (!holds_checkpoint(directory)) {
      outcome = {};
      outcome.start = Start::discard;
    }
  }
  if (outcome.state == State::done) return outcome;
  const std::optional<int> status = saved_status(directory);
  if (status && *status != 0) {
    outcome.state = State::failed;
    outcome.status = *status;
    outcome.message = last_words(directory + '/' + kLogName);
  }
  return outcome;
}

const char* name_of(State state) {
  switch (state) {
    case State::missing:
      return "missing";
    case State::unfinished:
      return "unfinished";
    case State::failed:
      return "failed";
    case State::done:
      return "done";
  }
  return "";
}

void forget_status(const std::string& directory) {
  create_folder(directory);
  std::error_code error;
  fs::remove(directory + '/' + kStatusName, error);
}

void save_status(const std::string& directory, int status) {
  const std::string text = std::to_string(status) + '\n';
  write_atomically(directory + '/' + kStatusName, as_bytes_of(std::string_view(text)));
}

}  // namespace fedctl::run
