// Small models, batches for them, and folders that vanish, for the tests of the LibTorch module.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "learn/spec.hpp"

namespace fedctl::test {

// A folder of this test's own.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "fedctl-torch-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name) const { return path_ + '/' + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}
inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A file of the shared data, or nothing (said on standard output) where it is absent.
inline std::optional<std::string> shared_data(const std::string& name) {
  const char* folder = std::getenv("FEDCTL_DATA");
  const std::string path =
      (folder != nullptr ? std::string(folder)
                         : std::string(FEDCTL_SOURCE_DIR) + "/../shared/data") +
      '/' + name;
  if (std::filesystem::exists(path)) return path;
  std::cout << "skipped: " << path << " is absent\n";
  return std::nullopt;
}

inline data::DatasetInfo images(Shape shape = {1, 8, 8}) {
  data::DatasetInfo info;
  info.classes = {"cat", "dog", "owl"};
  info.input_shape = std::move(shape);
  return info;
}
inline data::DatasetInfo texts(std::int64_t vocabulary = 19) {
  data::DatasetInfo info;
  info.task = data::Task::language;
  info.vocabulary = vocabulary;
  return info;
}

// Texts with classes.
inline data::DatasetInfo sentences(std::int64_t vocabulary = 19) {
  data::DatasetInfo info;
  info.classes = {"cat", "dog", "owl"};
  info.vocabulary = vocabulary;
  return info;
}

inline learn::LearnerSpec spec(const std::string& model, const std::string& adapter,
                               data::DatasetInfo info, const std::string& path = "",
                               std::uint64_t seed = 7) {
  return {.model =
              [&] {
                config::Plugin plugin = config::make_plugin(learn::family_kinds(), model);
                auto& options = dynamic_cast<learn::ModelOptions&>(*plugin.options);
                options.path = path;
                if (auto* mlp = dynamic_cast<learn::MlpOptions*>(&options)) {
                  mlp->hidden = 9;
                  mlp->layers = 2;
                }
                if (auto* vit = dynamic_cast<learn::VitOptions*>(&options)) {
                  vit->patch = 4;
                  vit->width = 12;
                  vit->depth = 2;
                  vit->heads = 2;
                  vit->mlp = 10;
                }
                if (auto* kwt = dynamic_cast<learn::KwtOptions*>(&options)) {
                  kwt->width = 12;
                  kwt->depth = 2;
                  kwt->heads = 2;
                  kwt->mlp = 10;
                }
                if (auto* cnn = dynamic_cast<learn::CnnOptions*>(&options)) {
                  cnn->channels = 2;
                  cnn->hidden = 6;
                }
                if (auto* llama = dynamic_cast<learn::LlamaOptions*>(&options)) {
                  llama->width = 16;
                  llama->hidden = 20;
                  llama->depth = 2;
                  llama->heads = 4;
                  llama->kv_heads = 2;
                  llama->context = 32;
                }
                if (auto* bert = dynamic_cast<learn::BertOptions*>(&options)) {
                  bert->width = 12;
                  bert->hidden = 10;
                  bert->depth = 2;
                  bert->heads = 2;
                  bert->context = 32;
                }
                if (auto* gpt2 = dynamic_cast<learn::Gpt2Options*>(&options)) {
                  gpt2->width = 12;
                  gpt2->depth = 2;
                  gpt2->heads = 3;
                  gpt2->context = 32;
                }
                return plugin;
              }(),
          .adapter =
              [&] {
                config::Plugin plugin = config::make_plugin(learn::adapter_kinds(), adapter);
                if (auto* lora = dynamic_cast<learn::LoraOptions*>(plugin.options.get())) {
                  lora->rank = 3;
                  lora->alpha = 6;
                  if (model == "mlp" || model == "cnn") lora->targets = {"fc1"};
                  if (model == "gpt2") lora->targets = {"qkv"};
                }
                if (auto* prompt = dynamic_cast<learn::PromptOptions*>(plugin.options.get())) {
                  prompt->tokens = 3;
                }
                if (auto* prefix = dynamic_cast<learn::PrefixOptions*>(plugin.options.get())) {
                  prefix->tokens = 3;
                }
                if (auto* vera = dynamic_cast<learn::VeraOptions*>(plugin.options.get())) {
                  vera->rank = 5;
                  if (model == "mlp" || model == "cnn") vera->targets = {"fc1"};
                  if (model == "gpt2") vera->targets = {"qkv"};
                }
                if (auto* ia3 = dynamic_cast<learn::Ia3Options*>(plugin.options.get())) {
                  if (model == "mlp" || model == "cnn") ia3->feedforward = {"fc1"};
                }
                return plugin;
              }(),
          .data = std::move(info),
          .rng = Rng(seed)};
}

inline data::Batch image_batch(const data::DatasetInfo& info, std::int64_t count,
                               std::uint64_t seed = 1) {
  Rng rng(seed);
  Shape shape = info.input_shape;
  shape.insert(shape.begin(), count);
  Tensor inputs = Tensor::zeros(DType::f32, shape);
  for (float& value : inputs.f32()) value = static_cast<float>(rng.normal());
  Tensor labels = Tensor::zeros(DType::i64, {count});
  for (auto& label : labels.i64())
    label = static_cast<std::int64_t>(rng.below(info.classes.size()));
  return {{info.input_shape.size() == 3 ? "pixels" : "features", std::move(inputs)},
          {"labels", std::move(labels)}};
}

inline Tensor numbers(const std::vector<std::int64_t>& values) {
  return Tensor::of(std::span(values), {});
}

// Texts of these lengths. The label of a position is the next token; the first two predictions of
// each text do not count. With classes in `info` a text has one label instead.
inline data::Batch text_batch(const data::DatasetInfo& info,
                              const std::vector<std::int64_t>& lengths, std::uint64_t seed = 1) {
  Rng rng(seed);
  std::vector<std::int64_t> tokens, labels;
  for (const std::int64_t length : lengths) {
    const std::size_t first = tokens.size();
    for (std::int64_t i = 0; i < length; ++i) {
      tokens.push_back(
          static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(info.vocabulary))));
    }
    if (!info.classes.empty()) {
      labels.push_back(static_cast<std::int64_t>(rng.below(info.classes.size())));
      continue;
    }
    for (std::int64_t i = 0; i < length; ++i) {
      labels.push_back(i < 2 || i + 1 == length ? data::kIgnore
                                                : tokens[first + static_cast<std::size_t>(i) + 1]);
    }
  }
  return {{"tokens", numbers(tokens)}, {"lengths", numbers(lengths)}, {"labels", numbers(labels)}};
}
inline data::Batch text_batch(const data::DatasetInfo& info, std::int64_t count,
                              std::int64_t length, std::uint64_t seed = 1) {
  return text_batch(info, std::vector(static_cast<std::size_t>(count), length), seed);
}

// The example `index` of a batch.
inline data::Batch example(const data::Batch& batch, std::int64_t index) {
  const auto lengths = batch.find("lengths");
  std::int64_t first = index, count = 1;  // its tokens
  if (lengths != batch.end()) {
    const auto all = lengths->second.i64();
    first = std::accumulate(all.begin(), all.begin() + index, std::int64_t{0});
    count = all[static_cast<std::size_t>(index)];
  }
  const std::int64_t tokens = lengths == batch.end() ? 0 : batch.at("tokens").shape[0];
  data::Batch one;
  for (const auto& [name, tensor] : batch) {
    const bool by_token = lengths != batch.end() && tensor.shape[0] == tokens;
    const std::int64_t from = by_token ? first : index, rows = by_token ? count : 1;
    const auto row = static_cast<std::int64_t>(tensor.bytes.size()) / tensor.shape[0];
    const auto begin = tensor.bytes.begin() + from * row;
    Tensor& part = one[name];
    part = {tensor.dtype, tensor.shape, Bytes(begin, begin + rows * row)};
    part.shape[0] = rows;
  }
  return one;
}

inline data::Batch batch_for(const learn::LearnerSpec& spec, std::int64_t count,
                             std::uint64_t seed = 1) {
  if (spec.data.vocabulary == 0) return image_batch(spec.data, count, seed);
  std::vector<std::int64_t> lengths;  // 11, 7, 7, 4, and again
  for (std::int64_t i = 0; i < count; ++i) {
    lengths.push_back(i % 4 == 0 ? 11 : i % 4 == 3 ? 4 : 7);
  }
  return text_batch(spec.data, lengths, seed);
}
inline data::DatasetInfo info_for(const std::string& model) {
  if (model == "kwt") return images({5, 6});
  if (model == "cnn") return images({2, 9, 8});
  if (model == "bert") return sentences();
  if (model == "gpt2") return texts();
  return model == "llama" ? texts() : model == "vit" ? images({2, 8, 12}) : images({1, 4, 5});
}

// Moves every weight, so that nothing under test is zero (LoRA's B is, at first).
inline void disturb(learn::Learner& learner, double size = 0.3, std::uint64_t seed = 5) {
  Rng rng(seed);
  for (float& weight : learner.weights()) weight += static_cast<float>(size * rng.normal());
}

inline std::vector<float> copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// The families and adapters that go together.
struct Pair {
  std::string model, adapter;
};
inline const std::vector<Pair>& pairs() {
  static const std::vector<Pair> kPairs = [] {
    std::vector<Pair> pairs;
    for (const char* model : {"mlp", "cnn", "vit", "kwt", "llama", "bert", "gpt2"}) {
      for (const char* adapter : {"lora", "dora", "ia3", "vera", "head", "full"}) {
        pairs.push_back({model, adapter});
      }
    }
    for (const char* model : {"vit", "kwt", "llama", "bert", "gpt2"}) {
      pairs.push_back({model, "prompt"});
      pairs.push_back({model, "prefix"});
    }
    for (const char* model : {"mlp", "cnn", "vit", "kwt", "bert", "gpt2"}) {
      pairs.push_back({model, "bitfit"});
    }
    return pairs;
  }();
  return kPairs;
}

}  // namespace fedctl::test
