// `fedctl check`, `fedctl list`: what can be said without opening data or model.
#include <cstdio>
#include <filesystem>
#include <map>

#include <nlohmann/json.hpp>

#include "aggregate/server_optimizer.hpp"
#include "codec/codec.hpp"
#include "data/registry.hpp"
#include "net/address.hpp"
#include "run/commands.hpp"

namespace fedctl::run {
namespace {

struct Line {
  std::string name, summary, paper, needs;
};
using Registry = std::vector<Line>;

template <class Entries, class Needs>
Registry lines_of(const Entries& entries, Needs needs) {
  Registry registry;
  for (const auto& entry : entries) {
    registry.push_back({entry.kind.name, entry.kind.summary, entry.kind.paper, needs(entry)});
  }
  return registry;
}
Registry lines_of(const config::Kinds& kinds) {
  Registry registry;
  for (const config::Kind& kind : kinds) registry.push_back({kind.name, kind.summary, kind.paper, ""});
  return registry;
}

std::string promises_text(const codec::Promises& promises) {
  std::string text;
  const auto add = [&](bool holds, const char* word) {
    if (holds) text += (text.empty() ? "" : ", ") + std::string(word);
  };
  add(promises.linear, "linear");
  add(promises.unbiased, "unbiased");
  add(promises.contractive, "contractive");
  return text;
}

std::map<std::string, Registry> registries() {
  const auto nothing = [](const auto&) { return std::string(); };
  return {
      {"methods", lines_of(methods::methods(), [](const auto& entry) {
         return "needs " + entry.needs + ", sends " + entry.payload;
       })},
      {"codecs", lines_of(codec::codecs(), [](const auto& entry) { return promises_text(entry.promises); })},
      {"aggregators", lines_of(aggregate::aggregators(), nothing)},
      {"adapters", lines_of(learn::adapter_kinds())},
      {"models", lines_of(learn::families(), [](const auto& entry) {
         return std::string(entry.needs_torch ? "LibTorch" : "");
       })},
      {"datasets", lines_of(data::datasets(), nothing)},
      {"partitioners", lines_of(data::partitioners(), nothing)},
      {"optimizers", lines_of(learn::optimizers(), nothing)},
      {"server-optimizers", lines_of(aggregate::server_optimizers(), nothing)},
  };
}

void require_file(const std::string& key, const std::string& path) {
  if (!path.empty() && !std::filesystem::exists(path)) {
    throw DataError(key + ": " + path + ": no such file or folder",
                    "paths are relative to the current directory, " +
                        std::filesystem::current_path().string());
  }
}

}  // namespace

int check(const config::Source& source, bool explain, bool schema) {
  if (schema) {
    Experiment experiment;
    std::fputs(config::schema(experiment, "fedctl experiment").c_str(), stdout);
    return kDone;
  }
  Experiment experiment = read_experiment(source);
  net::parse_address(experiment.server.listen, "server.listen");
  require_file("model.path", dynamic_cast<const learn::ModelOptions&>(*experiment.model.options).path);
  if (explain) {
    std::fputs(config::explain(source, experiment).c_str(), stdout);
  } else {
    std::printf("%s: ok\n", source.name.c_str());
  }
  return kDone;
}

int list(const std::string& what, bool json) {
  const std::map<std::string, Registry> all = registries();
  if (!what.empty() && !all.contains(what)) {
    std::vector<std::string> names;
    for (const auto& [name, registry] : all) names.push_back(name);
    const std::string near = config::nearest(what, names);
    throw ConfigError("list: no registry \"" + what + '"',
                      near.empty() ? "fedctl list prints them all" : "did you mean " + near + '?');
  }
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, registry] : all) {
    if (!what.empty() && name != what) continue;
    if (!json) std::printf("%s\n", name.c_str());
    for (const Line& line : registry) {
      out[name].push_back({{"name", line.name}, {"summary", line.summary}, {"paper", line.paper}, {"needs", line.needs}});
      if (json) continue;
      std::printf("  %-18s %s%s%s\n", line.name.c_str(), line.summary.c_str(),
                  line.needs.empty() ? "" : (" [" + line.needs + ']').c_str(),
                  line.paper.empty() ? "" : ("\n                     " + line.paper).c_str());
    }
  }
  if (json) std::printf("%s\n", out.dump(2).c_str());
  return kDone;
}

}  // namespace fedctl::run
