// What the experiment file says of model and adapter, and the registries of their kinds
// (families.def, adapters.def). Torch-free, so that `check` and `list` never load LibTorch.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.hpp"
#include "config/fields.hpp"
#include "data/dataset.hpp"
#include "learn/learner.hpp"

namespace fedctl::learn {

// Options shared by all families; each kind adds its own (learn/families.cpp).
struct ModelOptions : config::Options {
  std::string path;  // HF folder, llama2.c .bin, or a folder of `fedctl backbone`; "" = random from
                     // the seed
  std::string backbone_dtype = "float32";  // of the frozen matrices of linear layers
};
struct MlpOptions : ModelOptions {
  std::int64_t hidden = 128;  // width of each hidden layer
  std::int64_t layers = 1;    // hidden layers
  void fields(config::Fields& fields) override;
};
// Used only without a path, as are the numbers of llama: with one, the file's config.json decides.
struct VitOptions : ModelOptions {
  std::int64_t patch = 7, width = 64, depth = 3, heads = 4, mlp = 128;
  void fields(config::Fields& fields) override;
};
struct LlamaOptions : ModelOptions {
  std::int64_t width = 64, hidden = 172, depth = 5, heads = 8, kv_heads = 4, context = 512;
  void fields(config::Fields& fields) override;
};
// Used only without a path, as those of vit. KWT-1's numbers.
struct KwtOptions : ModelOptions {
  std::int64_t width = 64, depth = 12, heads = 1, mlp = 256;
  void fields(config::Fields& fields) override;
};
struct CnnOptions : ModelOptions {
  std::int64_t channels = 32;  // of the first convolution; the second has twice as many
  std::int64_t hidden = 512;
  void fields(config::Fields& fields) override;
};
struct BertOptions : ModelOptions {
  std::int64_t width = 64, hidden = 128, depth = 3, heads = 4, context = 128;
  std::string pooling = "cls";
  void fields(config::Fields& fields) override;
};
struct Gpt2Options : ModelOptions {
  std::int64_t width = 64, depth = 4, heads = 4, context = 256;
  void fields(config::Fields& fields) override;
};
// 0.5 * mean over examples of |w - example|^2: the toy back end, no torch. Trained in full.
struct QuadraticOptions : ModelOptions {
  void fields(config::Fields& fields) override;
};

// Shared by the adapters that PEFT knows.
struct AdapterOptions : config::Options {
  std::string path;  // folder of an adapter to start from; "" = fresh
};
// Targets are canonical names (query key value qkv output gate up down fc1 fc2) or, with a '.' or
// '*' in them, patterns over whole module names ("model.layers.0.*").
struct LoraOptions : AdapterOptions {
  std::int64_t rank = 8;
  double alpha = 16;
  std::vector<std::string> targets = {"query", "value"};
  std::vector<std::string> ranks;  // "target=rank" or "target=rank:alpha"; the first fit counts
  bool rslora = false;
  double dropout = 0;
  bool train_head = true;
  void fields(config::Fields& fields) override;
};
struct DoraOptions : LoraOptions {
  bool exact_norm = false;
  void fields(config::Fields& fields) override;
};
struct Ia3Options : AdapterOptions {
  // Empty: key, value (or qkv), and down or fc2.
  std::vector<std::string> targets, feedforward;
  bool train_head = true;
  void fields(config::Fields& fields) override;
};
struct VeraOptions : AdapterOptions {
  std::int64_t rank = 256;
  double d_initial = 0.1;
  std::vector<std::string> targets = {"query", "value"};
  bool train_head = true;
  void fields(config::Fields& fields) override;
};
struct PromptOptions : AdapterOptions {
  std::int64_t tokens = 8;
  bool train_head = true;
  void fields(config::Fields& fields) override;
};
struct PrefixOptions : AdapterOptions {
  std::int64_t tokens = 8;
  bool train_head = true;
  void fields(config::Fields& fields) override;
};
struct BitfitOptions : config::Options {
  bool train_head = true;
  void fields(config::Fields& fields) override;
};
struct HeadOptions : config::Options {
  void fields(config::Fields& fields) override;
};
struct FullOptions : config::Options {
  void fields(config::Fields& fields) override;
};

// The linear layers an adapter may target: canonical name, and the module's name below its layer in
// HF files.
struct Target {
  std::string name, module;
};
struct FamilyEntry {
  config::Kind kind;
  bool needs_torch = true;
  std::vector<Target> targets;
};
const std::vector<FamilyEntry>& families();
const config::Kinds& family_kinds();
const FamilyEntry& family(std::string_view kind);  // throws ConfigError
const config::Kinds& adapter_kinds();
// Throws ConfigError if this adapter does not fit this family: an unknown target, a prompt for an
// mlp, ...
void check_fit(const config::Plugin& model, const config::Plugin& adapter);

// Whether a target is a pattern, and whether a pattern or canonical name fits a layer.
bool is_pattern(const std::string& target);
bool fits(const std::string& target, const std::string& module, const std::string& name);
// An entry of LoraOptions::ranks. Throws ConfigError if it cannot be read.
struct RankRule {
  std::string target;
  std::int64_t rank;
  double alpha;
};
std::vector<RankRule> rank_rules(const LoraOptions& options);

// Everything a factory is made from.
struct LearnerSpec {
  config::Plugin model;
  config::Plugin adapter;
  data::DatasetInfo data;
  Rng rng{0};  // the stream ("init"): initial weights, by parameter name
  // Whether a family may run in loops of its own, where it has them, rather than operator by
  // operator: the same to the rounding. Tests and benchmarks turn it off to compare.
  bool fused = true;
};

// Opens the model. Families that need torch load the module lib/fedctl/libfedctl_torch.so beside
// the program on first use. Throws DataError (model file), ConfigError (kinds that do not fit
// together).
std::unique_ptr<LearnerFactory> make_factory(const LearnerSpec& spec);
// The same, but the model is opened with the first learner. Throws only if the kinds do not fit.
std::unique_ptr<LearnerFactory> make_late_factory(LearnerSpec spec);

}  // namespace fedctl::learn
