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
  for (const config::Kind& kind : kinds)
    registry.push_back({kind.name, kind.summary, kind.paper, ""});
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
      {"methods", lines_of(methods::methods(),
                           [](const auto& entry) {
                             return "needs " + entry.needs + ", sends " + entry.payload +
                                    ", rung " + std::to_string(entry.rung);
                           })},
      {"codecs",
       lines_of(codec::codecs(), [](const auto& entry) { return promises_text(entry.promises); })},
      {"aggregators", lines_of(aggregate::aggregators(), nothing)},
      {"adapters", lines_of(learn::adapter_kinds())},
      {"models", lines_of(learn::families(),
                          [](const auto& entry) {
                            return std::string(entry.needs_torch ? "LibTorch" : "");
                          })},
      {"datasets", lines_of(data::datasets(), nothing)},
      {"partitioners", lines_of(data::partitioners(), nothing)},
      {"optimizers", lines_of(learn::optimizers(), nothing)},
      {"server-optimizers", lines_of(aggregate::server_optimizers(), nothing)},
  };
}

// Finds every option that names a file or folder, and checks that it is there.
class PathChecker final : public config::Fields {
 public:
  explicit PathChecker(std::string key) : key_(std::move(key)) {}

  void text(std::string_view key, std::string& value, config::Text rule,
            std::string_view) override {
    const bool is_path = rule.kind == "a path" || rule.kind == "a file" ||
                         rule.kind == "a folder" || rule.kind == "a file or a folder";
    if (is_path && !value.empty() && !std::filesystem::exists(value)) {
      throw DataError(inside(key) + ": " + value + ": no such file or folder",
                      "paths are relative to the current directory, " +
                          std::filesystem::current_path().string());
    }
  }
  void section(std::string_view key, config::Options& value, std::string_view) override {
    PathChecker inner(inside(key));
    value.fields(inner);
  }
  void plugin(std::string_view key, config::Plugin& value, const config::Kinds&,
              std::string_view) override {
    section(key, *value.options, "");
  }
  void plugins(std::string_view key, std::vector<config::Plugin>& value, const config::Kinds& kinds,
               std::size_t, std::string_view) override {
    for (config::Plugin& item : value) plugin(key, item, kinds, "");
  }
  void integer(std::string_view, std::int64_t&, config::Whole, std::string_view) override {}
  void real(std::string_view, double&, config::Range, std::string_view) override {}
  void boolean(std::string_view, bool&, std::string_view) override {}
  void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}

 private:
  std::string inside(std::string_view key) const {
    return key_.empty() ? std::string(key) : key_ + '.' + std::string(key);
  }
  std::string key_;
};

}  // namespace

Experiment check_experiment(const config::Source& source) {
  Experiment experiment = read_experiment(source);
  net::parse_address(experiment.server.listen, "server.listen");
  PathChecker paths("");
  experiment.fields(paths);
  return experiment;
}

int check(const config::Source& source, bool explain, bool schema) {
  if (schema) {
    Experiment experiment;
    std::fputs(config::schema(experiment, "fedctl experiment").c_str(), stdout);
    return kDone;
  }
  Experiment experiment = check_experiment(source);
  for (const std::string& line : warnings(experiment)) {
    std::fprintf(stderr, "fedctl: warning: %s\n", line.c_str());
  }
  if (explain) {
    Experiment defaults;
    std::fputs(config::explain(source, experiment, defaults).c_str(), stdout);
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
      out[name].push_back({{"name", line.name},
                           {"summary", line.summary},
                           {"paper", line.paper},
                           {"needs", line.needs}});
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
