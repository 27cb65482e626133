// Which adapter goes with which model, and what adapters' targets mean.
#include <fnmatch.h>

#include <algorithm>
#include <charconv>

#include "config/config.hpp"
#include "learn/spec.hpp"

namespace fedctl::learn {
namespace {

struct Known {
  std::vector<std::string> names;
  std::string all;  // for people

  explicit Known(const FamilyEntry& entry) {
    for (const Target& target : entry.targets) {
      names.push_back(target.name);
      all += (all.empty() ? "" : ", ") + target.name;
    }
  }
  bool has(const std::string& name) const { return std::ranges::find(names, name) != names.end(); }
};

// Patterns are checked when the model is built, which knows its modules.
void check_targets(const std::string& key, const std::vector<std::string>& targets,
                   const Known& known, const std::string& model) {
  for (const std::string& target : targets) {
    if (is_pattern(target) || known.has(target)) continue;
    const std::string what = "adapter." + key + " names \"" + target + "\", model.kind " + model;
    if (known.has("qkv") && (target == "query" || target == "key" || target == "value")) {
      throw ConfigError(what + " has one matrix for query, key and value",
                        "adapter.targets: [qkv]");
    }
    const std::string nearest = config::nearest(target, known.names);
    throw ConfigError(what + " has " + known.all,
                      nearest.empty() ? "" : "did you mean " + nearest + '?');
  }
}

void require_some(const std::vector<std::string>& targets, const Known& known,
                  const std::string& model) {
  if (!targets.empty()) return;
  throw ConfigError("adapter.targets is empty, model.kind " + model + " has " + known.all);
}

void check_targets_of(const config::Options& adapter, const Known& known,
                      const std::string& model) {
  if (const auto* lora = dynamic_cast<const LoraOptions*>(&adapter)) {
    require_some(lora->targets, known, model);
    check_targets("targets", lora->targets, known, model);
    std::vector<std::string> ruled;
    for (const RankRule& rule : rank_rules(*lora)) ruled.push_back(rule.target);
    check_targets("ranks", ruled, known, model);
  }
  if (const auto* vera = dynamic_cast<const VeraOptions*>(&adapter)) {
    require_some(vera->targets, known, model);
    check_targets("targets", vera->targets, known, model);
  }
  if (const auto* ia3 = dynamic_cast<const Ia3Options*>(&adapter)) {
    check_targets("targets", ia3->targets, known, model);
    check_targets("feedforward", ia3->feedforward, known, model);
    const bool usual = std::ranges::any_of(known.names, [](const std::string& name) {
      return name == "key" || name == "qkv" || name == "fc2" || name == "down";
    });
    if (ia3->feedforward.empty() && !usual) require_some(ia3->targets, known, model);
  }
}

}  // namespace

bool is_pattern(const std::string& target) {
  return target.find_first_of(".*") != std::string::npos;
}

bool fits(const std::string& target, const std::string& module, const std::string& name) {
  return is_pattern(target) ? ::fnmatch(target.c_str(), module.c_str(), 0) == 0 : target == name;
}

std::vector<RankRule> rank_rules(const LoraOptions& options) {
  std::vector<RankRule> rules;
  for (const std::string& text : options.ranks) {
    const auto fail = [&](const std::string& why) {
      throw ConfigError("adapter.ranks has \"" + text + "\", " + why,
                        "target=rank or target=rank:alpha, as \"query=4:8\"");
    };
    const std::size_t sign = text.rfind('=');
    if (sign == std::string::npos || sign == 0) fail("which has no target and =");
    RankRule rule{text.substr(0, sign), 0, options.alpha};
    const char* end = text.data() + text.size();
    const auto rank = std::from_chars(text.data() + sign + 1, end, rule.rank);
    if (rank.ec != std::errc() || rule.rank < 1 || rule.rank > 4096) {
      fail("whose rank must be in [1, 4096]");
    }
    if (rank.ptr != end) {
      if (*rank.ptr != ':') fail("expected : after the rank");
      const auto alpha = std::from_chars(rank.ptr + 1, end, rule.alpha);
      if (alpha.ec != std::errc() || alpha.ptr != end || !(rule.alpha > 0) || rule.alpha > 1e9) {
        fail("whose alpha must be in (0, 1e9]");
      }
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

void check_fit(const config::Plugin& model, const config::Plugin& adapter) {
  const FamilyEntry& entry = family(model.kind);
  const std::string both =
      "adapter.kind is " + adapter.kind + " and model.kind is " + model.kind + ": ";
  if (!entry.needs_torch && adapter.kind != "full") {
    throw ConfigError(both + "this model is trained in full", "adapter: {kind: full}");
  }
  const bool sequence = model.kind != "mlp" && model.kind != "cnn";
  if ((adapter.kind == "prompt" || adapter.kind == "prefix") && !sequence) {
    throw ConfigError(both + "a " + adapter.kind + " needs a model that reads a sequence",
                      "use lora, head or full");
  }
  const auto* options = dynamic_cast<const ModelOptions*>(model.options.get());
  if (adapter.kind == "full" && options != nullptr && options->backbone_dtype != "float32") {
    throw ConfigError("model.backbone_dtype is " + options->backbone_dtype +
                          " and adapter.kind is full: no matrix is frozen",
                      "leave backbone_dtype out");
  }
  if (adapter.options) check_targets_of(*adapter.options, Known(entry), model.kind);
}

}  // namespace fedctl::learn
