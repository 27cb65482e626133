// The sweep file: strict options, and beside them the keys of the experiment that a sweep sets.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>

#include "base/digest.hpp"
#include "base/errors.hpp"
#include "config/document.hpp"
#include "run/sweep.hpp"

namespace fedctl::run {
namespace {

using config::Node;
using Type = Node::Type;

// Parts that are read below, so that the strict reader knows their names.
struct Elsewhere final : config::Options {
  void fields(config::Fields&) override {}
};
struct SeedsOptions final : config::Options {
  std::int64_t first = 1, count = 3;
  void fields(config::Fields& fields) override {
    fields.integer("first", first, {0, 1LL << 62}, "the first seed");
    fields.integer("count", count, {1, static_cast<std::int64_t>(kSweepSeedsMax)}, "how many");
  }
};
struct FileOptions final : config::Options {
  std::string name, experiment, metric = "accuracy";
  Elsewhere elsewhere;
  SeedsOptions seeds;
  config::Plugin executor = config::make_plugin(executor_kinds(), "local");

  void fields(config::Fields& fields) override {
    fields.text("name", name, {.kind = "[a-z0-9-]", .required = true}, "names the folder");
    fields.text("experiment", experiment, {.kind = "a file", .required = true},
                "the experiment file, beside this one");
    fields.section("set", elsewhere, "keys of every cell");
    fields.section("grid", elsewhere, "lists of values: every combination is a cell");
    fields.section("cells", elsewhere, "a list of cells, instead of a grid");
    fields.section("seeds", seeds, "the seeds of every cell");
    fields.text("metric", metric,
                {.one_of = {"accuracy", "loss", "perplexity", "f1", "auc", "exact_match",
                            "train_loss", "client_accuracy.mean", "client_accuracy.p10",
                            "client_accuracy.worst", "client_loss"}},
                "of the last evaluated round");
    fields.plugin("executor", executor, executor_kinds(), "where runs are computed");
  }
};

// The child, if there is one with a value; what stays behind is an empty section.
Node take(Node& root, const char* key) {
  Node* found = root.find(key);
  if (found == nullptr) return {};
  Node taken = *found;
  found->type = Type::null;
  found->children.clear();
  return taken;
}

Setting setting_of(const Node& node, const std::string& path) {
  const std::string key = path + '.' + node.key;
  if (node.type == Type::null) config::fail(node.key_place, key + " has no value");
  if (node.key == "seed") {
    config::fail(node.key_place, key + ": seeds are the same for every cell", "seeds: [1, 2, 3]");
  }
  if (node.key == "name") {
    config::fail(node.key_place, key + ": a run is named by its folder", "remove it");
  }
  return {node.key, config::flow_text(node), node.place, node.key_place};
}

Settings settings_of(const Node& node, const std::string& path) {
  if (node.type != Type::map) {
    config::fail(node.place, path + " must be a map of keys and values",
                 "train.optimizer.lr: 0.1, say");
  }
  Settings settings;
  for (const Node& child : node.children) settings.push_back(setting_of(child, path));
  return settings;
}

// `set` as a map, or as a list of "key=value".
Settings set_of(const Node& node) {
  if (node.type != Type::list) return settings_of(node, "set");
  Settings settings;
  for (const Node& item : node.children) {
    const std::size_t equals = item.scalar.find('=');
    if (item.type != Type::scalar || equals == 0 || equals == std::string::npos) {
      config::fail(item.place, "set must be a map, or a list of key.path=value",
                   "for example train.epochs=2");
    }
    Node value = config::parse(item.scalar.substr(equals + 1), {item.place, false});
    value.key = item.scalar.substr(0, equals);
    value.place = value.key_place = item.place;
    settings.push_back(setting_of(value, "set"));
  }
  return settings;
}

std::vector<Cell> grid_of(const Node& node) {
  if (node.type != Type::map) config::fail(node.place, "grid must be a map of keys and lists");
  std::vector<Cell> cells(1);
  for (const Node& axis : node.children) {
    const std::string path = "grid." + axis.key;
    if (axis.type != Type::list || axis.children.empty()) {
      config::fail(axis.place, path + " must be a list of values", "[0.01, 0.1], say");
    }
    if (cells.size() * axis.children.size() > kSweepCellsMax) {
      config::fail(axis.place,
                   "more cells than " + std::to_string(kSweepCellsMax) + " with " + path);
    }
    std::vector<Cell> product;
    for (const Cell& cell : cells) {
      for (Node value : axis.children) {
        value.key = axis.key;
        value.key_place = axis.key_place;
        product.push_back(cell);
        product.back().settings.push_back(setting_of(value, "grid"));
      }
    }
    cells = std::move(product);
  }
  for (Cell& cell : cells) {
    cell.place = cell.settings.empty() ? node.place : cell.settings.back().place;
  }
  return cells;
}

std::vector<Cell> list_of(const Node& node) {
  if (node.type != Type::list || node.children.empty()) {
    config::fail(node.place, "cells must be a list of maps", "- {train.optimizer.lr: 0.1}");
  }
  if (node.children.size() > kSweepCellsMax) {
    config::fail(node.place, "more cells than " + std::to_string(kSweepCellsMax));
  }
  std::vector<Cell> cells;
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    const Node& item = node.children[i];
    cells.push_back({settings_of(item, "cells[" + std::to_string(i) + ']'), item.place, ""});
  }
  return cells;
}

std::vector<std::int64_t> seeds_of(const Node& node) {
  std::vector<std::int64_t> seeds;
  if (node.children.empty() || node.children.size() > kSweepSeedsMax) {
    config::fail(node.place, "seeds must be 1 to " + std::to_string(kSweepSeedsMax));
  }
  for (const Node& item : node.children) {
    const std::string& text = item.scalar;
    std::int64_t seed = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
    if (item.type != Type::scalar || item.quoted || text.empty() || error != std::errc{} ||
        end != text.data() + text.size() || seed < 0) {
      config::fail(item.place, "a seed must be an integer, at least 0");
    }
    if (std::ranges::find(seeds, seed) != seeds.end()) {
      config::fail(item.place, "seed " + text + " appears twice", "remove one of the two");
    }
    seeds.push_back(seed);
  }
  return seeds;
}

void check_name(const Node& root, const std::string& name) {
  if (name.size() > 64 ||
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) {
    config::fail(root.find("name")->place,
                 "name is \"" + name + "\", must be 1 to 64 of the characters a-z, 0-9 and -",
                 "it names the folder runs/<name>");
  }
}

}  // namespace

Sweep read_sweep(const config::Source& source, const std::string& folder) {
  Node root = config::load(source);
  const Node set = take(root, "set"), grid = take(root, "grid"), cells = take(root, "cells");
  Node seeds;
  if (const Node* found = root.find("seeds"); found != nullptr && found->type == Type::list) {
    seeds = take(root, "seeds");
  }
  FileOptions options;
  config::read(root, options);
  check_name(root, options.name);

  Sweep sweep;
  sweep.file = source.name;
  sweep.name = options.name;
  sweep.metric = options.metric;
  sweep.executor = options.executor;
  const std::filesystem::path chosen(folder.empty() ? "runs/" + options.name : folder);
  sweep.folder = (chosen / "x").lexically_normal().parent_path().string();  // no slash at the end
  const std::filesystem::path experiment(options.experiment);
  sweep.experiment =
      (std::filesystem::path(source.name).parent_path() / experiment).lexically_normal().string();
  if (!std::filesystem::exists(sweep.experiment)) {
    config::fail(root.find("experiment")->place,
                 "experiment is " + options.experiment + ", but there is no " + sweep.experiment,
                 "a path that does not begin with / starts at the sweep file");
  }
  if (set.type != Type::null) sweep.set = set_of(set);
  if (grid.type != Type::null && cells.type != Type::null) {
    config::fail(cells.place, "cells and grid exclude each other", "keep one of the two");
  }
  sweep.cells = grid.type != Type::null    ? grid_of(grid)
                : cells.type != Type::null ? list_of(cells)
                                           : std::vector<Cell>{{{}, root.place, ""}};
  if (seeds.type == Type::list) {
    sweep.seeds = seeds_of(seeds);
  } else {
    for (std::int64_t i = 0; i < options.seeds.count; ++i) {
      sweep.seeds.push_back(options.seeds.first + i);
    }
  }
  if (sweep.run_count() > kSweepRunsMax) {
    config::fail(root.place, std::to_string(sweep.run_count()) + " runs, must be at most " +
                                 std::to_string(kSweepRunsMax));
  }
  return sweep;
}

void LocalExecutor::fields(config::Fields& fields) {
  fields.integer("jobs", jobs, {1, 1024}, "runs at a time; each has its share of the cores");
}

void SlurmExecutor::fields(config::Fields& fields) {
  fields.text("partition", partition, {}, "of the array; \"\": the cluster's default");
  fields.text("time", time, {}, "of one run, as sbatch --time; a run that needs more is requeued");
  fields.integer("cpus", cpus, {1, 1024}, "cores of one run");
  fields.integer("at_once", at_once, {0, 100'000},
                 "runs at a time; 0: as many as there is room for");
  fields.texts("extra", extra, "more options of sbatch: [--account=lab, --mem=4G]");
  fields.boolean("wait", wait, "wait for the array and print the table");
}

const config::Kinds& executor_kinds() {
  static const config::Kinds kKinds = {
      {"local", "processes on this machine", "", [] { return std::make_unique<LocalExecutor>(); }},
      {"slurm", "one job array, a task a run", "",
       [] { return std::make_unique<SlurmExecutor>(); }},
  };
  return kKinds;
}

std::string Cell::label() const {
  std::string label;
  for (const Setting& setting : settings) {
    label += (label.empty() ? "" : " ") + setting.key + '=' + setting.value;
  }
  return label.empty() ? "all" : label;
}

const Setting* Cell::find(const std::string& key) const {
  const auto found = std::ranges::find(settings, key, &Setting::key);
  return found == settings.end() ? nullptr : &*found;
}

std::string Sweep::directory_of(std::size_t run) const {
  return folder + '/' + cell_of(run).folder + '/' + std::to_string(seed_of(run));
}

std::vector<std::string> Sweep::keys() const {
  std::vector<std::string> keys;
  for (const Cell& cell : cells) {
    for (const Setting& setting : cell.settings) {
      if (std::ranges::find(keys, setting.key) == keys.end()) keys.push_back(setting.key);
    }
  }
  return keys;
}

std::string Sweep::digest() const {
  Digest digest;
  for (const Cell& cell : cells) digest.add(std::string_view(cell.folder));
  for (const std::int64_t seed : seeds) digest.add(std::string_view(std::to_string(seed)));
  return digest.hex().substr(0, 16);
}

}  // namespace fedctl::run
