// `fedctl export`: what a run has learnt, in files for other tools: a PEFT adapter folder or the
// whole model with the adapter merged into it.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/digest.hpp"
#include "data/safetensors.hpp"
#include "run/commands.hpp"
#include "run/job.hpp"
#include "run/run_directory.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;
using Provenance = std::map<std::string, std::string>;

// A state of the run that is still on disk: a folder below adapter/, or a checkpoint's file.
struct Kept {
  std::string path;
  std::int64_t round = 0;
  bool is_checkpoint = false;
  Provenance provenance;  // of a folder
};

std::optional<std::int64_t> number_in(const std::string& text) {
  if (text.empty() || text.size() > 18 ||
      text.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return std::stoll(text);
}

void add_folder(const std::string& folder, std::vector<Kept>& kept) {
  std::error_code error;
  for (const char* file : {"/adapter_model.safetensors", "/model.safetensors"}) {
    if (!fs::exists(folder + file, error)) continue;
    const Provenance metadata = data::Safetensors::open(folder + file).metadata();
    const auto round = metadata.find("round");
    const auto number = round == metadata.end() ? std::nullopt : number_in(round->second);
    if (!number) {
      throw RunDirectoryError(folder + file + ": its metadata name no round",
                              "was it written by another program?");
    }
    kept.push_back({folder, *number, false, metadata});
    return;
  }
}

void add_checkpoints(const std::string& folder, std::vector<Kept>& kept) {
  const std::string prefix = "round-";
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const auto number = number_in(name.substr(prefix.size()));
    if (number) kept.push_back({entry.path().string(), *number, true, {}});
  }
}

// The state that `round` asks for. Folders go before checkpoints of the same round.
Kept choose(const std::string& run, const std::string& round) {
  std::vector<Kept> kept;
  add_folder(run + "/adapter/best", kept);
  const bool has_best = !kept.empty();
  add_folder(run + "/adapter/last", kept);
  add_checkpoints(run + "/checkpoint", kept);
  if (kept.empty()) throw RunDirectoryError(run + ": holds neither adapter nor checkpoint");
  if (round == "best") {
    if (has_best) return kept.front();
    throw RunDirectoryError(run + "/adapter/best: is not there", "--round last");
  }
  if (round == "last") {
    return *std::ranges::max_element(kept, {}, [](const Kept& k) { return k.round; });
  }
  const auto wanted = number_in(round);
  if (!wanted) throw ConfigError("--round is \"" + round + "\", must be best, last or a number");
  std::string all;
  std::set<std::int64_t> listed;
  for (const Kept& k : kept) {
    if (k.round == *wanted) return k;
    const std::string number = std::to_string(k.round);
    if (listed.insert(k.round).second) all += (all.empty() ? "" : ", ") + number;
  }
  throw ConfigError(run + ": round " + round + " is not kept", "rounds on disk: " + all);
}

std::vector<float> checkpoint_weights(const Kept& kept, const Job& job) {
  try {
    Parts parts;
    const wire::Message state = decode_parts(read_file(kept.path), parts);
    const wire::Expect fields(state, "checkpoint");
    if (fields.text("plan") != job.digests.plan) {
      throw RunDirectoryError(kept.path + ": is of another experiment than experiment.yaml");
    }
    const auto size = static_cast<std::int64_t>(job.plan.layout.size());
    const std::span<const float> weights = fields.f32("weights", {size});
    return {weights.begin(), weights.end()};
  } catch (const WireError& error) {
    throw RunDirectoryError(kept.path + ": " + error.what(), "the checkpoint is damaged");
  } catch (const ProtocolError& error) {
    throw RunDirectoryError(kept.path + ": " + error.what(), "the checkpoint is damaged");
  }
}

// Puts the state's values into the learner.
void load(const Kept& kept, const Job& job, learn::Learner& learner) {
  if (kept.is_checkpoint) {
    std::ranges::copy(checkpoint_weights(kept, job), learner.weights().begin());
    return;
  }
  const auto require = [&](const char* key, const std::string& found, const char* what) {
    const auto said = kept.provenance.find(key);
    if (said == kept.provenance.end() || said->second == found) return;
    throw DataError(kept.path + ": " + what + " has digest " + said->second + ", found " + found,
                    "is the model at model.path still the one of the run?");
  };
  require("base", job.digests.base, "its base model");
  learner.load_adapter(kept.path);
  require("digest", digest_of(as_bytes_of(std::span<const float>(learner.weights()))),
          "the adapter");
}

data::Storage storage_of(const ExportOptions& options) {
  if (options.dtype == "float32") return data::Storage::f32;
  if (!options.merged) throw ConfigError("--dtype is for --as merged: adapters are float32");
  if (options.dtype == "float16") return data::Storage::f16;
  if (options.dtype == "bfloat16") return data::Storage::bf16;
  throw ConfigError("--dtype is \"" + options.dtype + "\", must be float32, float16 or bfloat16");
}

// Inputs and logits of the first test examples, "3.tokens" and "3.logits", one example a batch.
void write_logits(const ExportOptions& options, const Job& job, learn::Learner& learner,
                  const Provenance& provenance) {
  const std::vector<std::size_t> test = job.test_indices();
  if (test.empty()) throw ConfigError("--logits: the run's data hold no test examples");
  TensorMap tensors;
  const auto count = std::min(test.size(), static_cast<std::size_t>(options.examples));
  for (std::size_t i = 0; i < count; ++i) {
    const data::Batch batch = job.test_set().gather(std::span(test).subspan(i, 1));
    const std::string prefix = std::to_string(i) + '.';
    for (const auto& [name, tensor] : batch) tensors[prefix + name] = tensor;
    tensors[prefix + "logits"] = learner.logits(batch);
  }
  data::write_safetensors(options.logits, tensors, provenance);
}

// A merged model is complete with the tokenizer it came with.
void copy_tokenizer(const std::string& from, const std::string& to) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model",
                           "preprocessor_config.json", "generation_config.json"}) {
    std::error_code error;
    const fs::path source = fs::path(from) / name, target = fs::path(to) / name;
    if (!fs::is_regular_file(source, error) || fs::equivalent(source, target, error)) continue;
    if (!fs::copy_file(source, target, fs::copy_options::overwrite_existing, error)) {
      throw DataError(target.string() + ": cannot be written: " + error.message());
    }
  }
}

}  // namespace

int export_run(const ExportOptions& options) {
  const data::Storage storage = storage_of(options);
  if (options.examples < 1) {
    throw ConfigError("--examples is " + std::to_string(options.examples) + ", must be at least 1");
  }
  std::error_code error;
  if (!fs::is_directory(options.run, error)) {
    throw ConfigError(options.run + ": no such run directory", "fedctl export runs/NAME --out DIR");
  }
  const std::string file = options.run + "/experiment.yaml";
  if (!fs::exists(file, error)) throw RunDirectoryError(file + ": is not there: no run was here");
  const Kept kept = choose(options.run, options.round);
  const Job job = make_job(read_experiment(config::read_source(file)), 1);
  learn::LearnerPool::Lease learner = job.learners->acquire();
  load(kept, job, *learner);

  const std::string digest = digest_of(as_bytes_of(std::span<const float>(learner->weights())));
  const Provenance provenance = {{"run", job.experiment.name},
                                 {"round", std::to_string(kept.round)},
                                 {"digest", digest},
                                 {"base", job.digests.base}};
  if (options.merged) {
    learner->save_merged(options.out, provenance, storage);
    const auto* model = dynamic_cast<learn::ModelOptions*>(job.experiment.model.options.get());
    if (model != nullptr && !model->path.empty()) copy_tokenizer(model->path, options.out);
  } else {
    learner->save_adapter(options.out, provenance);
  }
  if (!options.logits.empty()) write_logits(options, job, *learner, provenance);
  const nlohmann::ordered_json line = {{"out", options.out},
                                       {"as", options.merged ? "merged" : "peft"},
                                       {"round", kept.round},
                                       {"digest", digest}};
  std::printf("%s\n",
              line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
  return kDone;
}

}  // namespace fedctl::run
