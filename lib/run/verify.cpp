// `fedctl verify`: whether a run directory is what its run has written.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "data/safetensors.hpp"
#include "journal/chain.hpp"
#include "journal/journal.hpp"
#include "run/commands.hpp"
#include "run/run_directory.hpp"
#include "run/seal.hpp"
#include "run/spool.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kDamaged = "the file was damaged or edited after the run had written it";

// What the journal says, when all of it adds up.
struct Told {
  std::size_t lines = 0;
  std::int64_t rounds = -1;
  std::map<std::int64_t, std::string> digests;  // of the weights after each round
  std::string plan;
  std::uint64_t up = 0, down = 0;
};

std::uint64_t whole(const Json& object, const char* key) {
  if (!object.contains(key) || !object[key].is_number_unsigned()) {
    throw ProtocolError(std::string("\"") + key + "\" is no count");
  }
  return object[key].get<std::uint64_t>();
}

// Adds one direction of a round line to its total. Throws ProtocolError saying what is wrong.
void add_bytes(const Json& line, const std::string& way, std::uint64_t& total) {
  const std::string sum_key = "bytes_" + way, total_key = sum_key + "_total";
  const std::uint64_t sum = whole(line, sum_key.c_str());
  const Json& parts = line.at("bytes").at(way);
  std::uint64_t added = 0;
  for (const char* part : {"payload", "framing", "tls", "resent", "control"}) {
    added += whole(parts, part);
  }
  if (added != sum) {
    throw ProtocolError(sum_key + " is " + std::to_string(sum) + ", its parts add up to " +
                        std::to_string(added));
  }
  total += sum;
  if (whole(line, total_key.c_str()) != total) {
    throw ProtocolError(total_key + " is " + line[total_key].dump() +
                        ", the rounds so far add up to " + std::to_string(total));
  }
}

void read_round(const Json& line, Told& told) {
  const auto round = line.at("round").get<std::int64_t>();
  if (round != told.rounds + 1) {
    throw ProtocolError("round " + std::to_string(round) + " stands behind round " +
                        std::to_string(told.rounds));
  }
  told.rounds = round;
  add_bytes(line, "up", told.up);
  add_bytes(line, "down", told.down);
  told.digests.emplace(round, line.at("digest").get<std::string>());
}

Told read_journal(const std::string& path) {
  Told told;
  for (const std::string& text : journal::read_lines(path)) {
    ++told.lines;
    try {
      const Json line = Json::parse(text);
      const auto event = line.at("event").get<std::string>();
      if (event == "start") told.plan = line.at("plan").get<std::string>();
      if (event == "round") read_round(line, told);
    } catch (const std::exception& error) {
      throw RunDirectoryError(path + ':' + std::to_string(told.lines) + ": " + error.what(),
                              kDamaged);
    }
  }
  return told;
}

std::string verify_checkpoint(const std::string& path, const Told& told) {
  Parts parts;
  try {
    const wire::Message state = decode_parts(read_file(path), parts);
    const wire::Expect fields(state, "checkpoint");
    const std::int64_t round = fields.integer("round", 0, INT64_MAX);
    if (!told.plan.empty() && fields.text("plan") != told.plan) {
      throw ProtocolError("its plan is not that of the journal");
    }
    const auto weights = state.tensors.find("weights");
    if (weights == state.tensors.end()) throw ProtocolError("it has no weights");
    const auto digest = told.digests.find(round);
    // The line of a round may be in the checkpoint alone, if the process died in between.
    if (digest == told.digests.end() && round != told.rounds + 1) {
      throw ProtocolError("its round " + std::to_string(round) + " is not in the journal");
    }
    if (digest != told.digests.end() && digest_of(weights->second.bytes) != digest->second) {
      throw ProtocolError("its weights are not those of round " + std::to_string(round) +
                          " in the journal");
    }
    return "checkpoint of round " + std::to_string(round);
  } catch (const RunDirectoryError&) {
    throw;
  } catch (const Error& error) {
    throw RunDirectoryError(path + ": " + error.what(), kDamaged);
  }
}

// The files are those of B2SUMS, and say of themselves what the journal says.
void verify_adapter(const std::string& folder, const Told& told) {
  std::ifstream sums(folder + '/' + kSumsName);
  if (!sums) throw RunDirectoryError(folder + '/' + kSumsName + ": is not there", kDamaged);
  std::vector<std::string> listed;
  std::string digest, name;
  while (sums >> digest >> name) {
    listed.push_back(name);
    const std::string path = folder + '/' + name;
    if (!fs::exists(path)) throw RunDirectoryError(path + ": is not there", kDamaged);
    if (digest_of(read_file(path)) != digest) {
      throw RunDirectoryError(path + ": is not what " + kSumsName + " says", kDamaged);
    }
    if (fs::path(path).extension() != ".safetensors") continue;
    const data::Safetensors file = data::Safetensors::open(path);
    const auto round = file.metadata().find("round"), weights = file.metadata().find("digest");
    if (round == file.metadata().end() || weights == file.metadata().end()) continue;
    const auto known = told.digests.find(std::stoll(round->second));
    if (known == told.digests.end() || known->second != weights->second) {
      throw RunDirectoryError(path + ": says that it is of round " + round->second +
                                  ", whose digest in the journal is another",
                              kDamaged);
    }
  }
  if (listed != files_of(folder)) {
    throw RunDirectoryError(folder + '/' + kSumsName + ": does not list the files that are there",
                            kDamaged);
  }
}

std::vector<std::string> names(const std::string& folder) {
  return fs::exists(folder) ? files_of(folder) : std::vector<std::string>{};
}

}  // namespace

int verify(const std::string& run, const std::string& authority) {
  const std::string journal = run + "/journal.jsonl";
  const Told told = read_journal(journal);
  if (!fs::exists(journal::chain_path(journal))) {
    throw RunDirectoryError(journal::chain_path(journal) + ": is not there",
                            "without it nobody can tell whether the journal was edited");
  }
  const std::size_t signed_lines = check_seal(run, journal::verify_chain(journal), authority);
  std::string kept;
  for (const std::string& name : names(run + "/checkpoint")) {
    kept += ", " + verify_checkpoint(run + "/checkpoint/" + name, told);
  }
  if (kept.empty()) throw RunDirectoryError(run + "/checkpoint: holds none", kDamaged);
  for (const std::string& name : names(run + "/spool")) {
    const std::string path = run + "/spool/" + name;
    SpoolRecords::in(path).skip_all();
  }
  for (const char* name : {"best", "last"}) {
    const std::string folder = run + "/adapter/" + name;
    if (fs::exists(folder)) verify_adapter(folder, told);
  }
  if (signed_lines > 0) kept += ", " + std::to_string(signed_lines) + " lines signed";
  std::printf(
      "%s: %zu journal lines, rounds 0 to %lld, %llu bytes up, %llu down%s: all as written\n",
      run.c_str(), told.lines, static_cast<long long>(told.rounds),
      static_cast<unsigned long long>(told.up), static_cast<unsigned long long>(told.down),
      kept.c_str());
  return kDone;
}

}  // namespace fedctl::run
