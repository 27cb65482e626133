#include "learn/torch/checkpoint.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "base/limits.hpp"

namespace fedctl::learn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::uintmax_t kConfigBytesMax = 1 << 20;
constexpr std::uintmax_t kBinBytesMax = std::uintmax_t{16} << 30;

// Rows of a query or key matrix from llama2.c's order (neighbouring pairs rotate) to HF's (halves rotate).
void pairs_to_halves(std::span<float> matrix, std::int64_t heads, std::int64_t rows, std::int64_t columns) {
  const std::int64_t head_rows = rows / heads, half = head_rows / 2;
  const std::vector<float> old(matrix.begin(), matrix.end());
  for (std::int64_t head = 0; head < heads; ++head) {
    for (std::int64_t row = 0; row < head_rows; ++row) {
      const std::int64_t from = head * head_rows + row;
      const std::int64_t to = head * head_rows + row / 2 + (row % 2) * half;
      std::copy_n(old.begin() + from * columns, columns, matrix.begin() + to * columns);
    }
  }
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const std::string& path, const std::string& kind) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->path_ = path;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    checkpoint->load_folder();
  } else if (fs::is_regular_file(path, error)) {
    if (kind != "llama") {
      throw DataError(path + ": a single file is read as a llama2.c .bin, but model.kind is " + kind,
                      "model.path takes a folder with config.json and model.safetensors");
    }
    checkpoint->load_llama2c();
  } else {
    throw DataError("model.path: " + path + ": no such file or folder",
                    "paths are relative to the current directory");
  }
  return checkpoint;
}

void Checkpoint::load_folder() {
  const std::string config = path_ + "/config.json";
  std::error_code error;
  if (fs::file_size(config, error) > kConfigBytesMax || error) {
    throw DataError(config + ": missing or larger than 1 MiB", "model.path takes a folder that holds it");
  }
  std::ifstream in(config);
  const Json json = Json::parse(in, nullptr, false);
  if (!json.is_object()) throw DataError(config + ": not a JSON object");
  for (const auto& [key, value] : json.items()) {
    if (value.is_number()) numbers_[key] = value.get<double>();
    if (value.is_boolean()) numbers_[key] = value.get<bool>() ? 1 : 0;
  }
  if (json.contains("id2label") && json["id2label"].is_object()) {
    const Json& labels = json["id2label"];
    for (std::size_t id = 0; id < labels.size(); ++id) {
      const std::string key = std::to_string(id);
      if (!labels.contains(key) || !labels[key].is_string()) {
        throw DataError(config + ": id2label has no text for \"" + key + '"');
      }
      classes_.push_back(labels[key]);
    }
  }
  file_.emplace(data::Safetensors::open(path_ + "/model.safetensors"));
}

// Version 0: seven int32, then float32 tensors in a fixed order (llama2.c, export.py legacy format).
void Checkpoint::load_llama2c() {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path_, error);
  std::int32_t header[7] = {};
  std::ifstream in(path_, std::ios::binary);
  if (error || size < sizeof header || size > kBinBytesMax || !in.read(reinterpret_cast<char*>(header), sizeof header)) {
    throw DataError(path_ + ": not a llama2.c file: shorter than its header of 28 bytes");
  }
  static constexpr const char* kNames[7] = {"dim", "hidden", "layers", "heads", "kv_heads", "vocabulary", "context"};
  for (int i = 0; i < 7; ++i) {
    const std::int64_t value = i == 5 ? std::abs(static_cast<std::int64_t>(header[i])) : header[i];
    if (value < 1 || value > (1 << 20)) {
      throw DataError(path_ + ": header: " + kNames[i] + " is " + std::to_string(header[i]) +
                      ", expected 1 to 1048576");
    }
  }
  const std::int64_t dim = header[0], hidden = header[1], layers = header[2], heads = header[3], kv = header[4];
  const std::int64_t vocabulary = std::abs(static_cast<std::int64_t>(header[5])), context = header[6];
  const bool tied = header[5] > 0;
  if (dim % heads != 0 || heads % kv != 0 || (dim / heads) % 2 != 0) {
    throw DataError(path_ + ": header: heads must divide dim evenly, and kv_heads heads");
  }
  const std::int64_t kv_dim = dim / heads * kv;
  std::uint64_t read = sizeof header;
  const auto take = [&](const Shape& shape) {
    const std::size_t count = element_count(shape);
    if (count * sizeof(float) > size - read) {
      throw DataError(path_ + ": ends early: a tensor of " + to_string(shape) + " at byte " + std::to_string(read) +
                      " does not fit " + std::to_string(size) + " bytes");
    }
    Tensor tensor = Tensor::zeros(DType::f32, shape);
    in.read(reinterpret_cast<char*>(tensor.bytes.data()), static_cast<std::streamsize>(tensor.bytes.size()));
    read += tensor.bytes.size();
    return tensor;
  };
  const auto name = [](std::int64_t layer, const char* part) {
    return "model.layers." + std::to_string(layer) + '.' + part + ".weight";
  };
  const auto take_each = [&](const char* part, const Shape& shape, std::int64_t rotary_heads) {
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      Tensor tensor = take(shape);
      if (rotary_heads > 0) pairs_to_halves(tensor.f32(), rotary_heads, shape[0], shape[1]);
      converted_[name(layer, part)] = std::move(tensor);
    }
  };
  converted_["model.embed_tokens.weight"] = take({vocabulary, dim});
  take_each("input_layernorm", {dim}, 0);
  take_each("self_attn.q_proj", {dim, dim}, heads);
  take_each("self_attn.k_proj", {kv_dim, dim}, kv);
  take_each("self_attn.v_proj", {kv_dim, dim}, 0);
  take_each("self_attn.o_proj", {dim, dim}, 0);
  take_each("post_attention_layernorm", {dim}, 0);
  take_each("mlp.gate_proj", {hidden, dim}, 0);
  take_each("mlp.down_proj", {dim, hidden}, 0);
  take_each("mlp.up_proj", {hidden, dim}, 0);
  converted_["model.norm.weight"] = take({dim});
  take({context, dim / heads / 2});  // two tables of rotary factors, which are computed here
  take({context, dim / heads / 2});
  if (!tied) converted_["lm_head.weight"] = take({vocabulary, dim});
  if (read != size) {
    throw DataError(path_ + ": has " + std::to_string(size - read) + " bytes after the last tensor");
  }
  numbers_ = {{"hidden_size", dim}, {"intermediate_size", hidden}, {"num_hidden_layers", layers},
              {"num_attention_heads", heads}, {"num_key_value_heads", kv}, {"vocab_size", vocabulary},
              {"max_position_embeddings", context}, {"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0},
              {"tie_word_embeddings", tied ? 1.0 : 0.0}};
}

bool Checkpoint::contains(const std::string& name) const {
  return file_ ? file_->contains(name) : converted_.contains(name);
}

Tensor Checkpoint::tensor(const std::string& name, const Shape& shape) const {
  if (!contains(name)) throw DataError(path_ + ": no tensor \"" + name + '"', "is it a model of another kind?");
  const Shape& found = file_ ? file_->shape(name) : converted_.at(name).shape;
  if (found != shape) {
    throw DataError(path_ + ": tensor \"" + name + "\" is " + to_string(found) + ", expected " + to_string(shape));
  }
  if (file_) return file_->f32(name);
  const Tensor& tensor = converted_.at(name);
  for (const float value : tensor.f32()) {
    if (!std::isfinite(value)) throw DataError(path_ + ": tensor \"" + name + "\" holds a value that is not finite");
  }
  return tensor;
}

std::optional<double> Checkpoint::number(const std::string& key) const {
  const auto found = numbers_.find(key);
  return found == numbers_.end() ? std::nullopt : std::optional(found->second);
}

std::int64_t Checkpoint::integer(const std::string& key, std::int64_t min, std::int64_t max) const {
  const std::optional<double> value = number(key);
  if (!value) throw DataError(path_ + "/config.json: no number \"" + key + '"');
  if (*value != std::floor(*value) || *value < static_cast<double>(min) || *value > static_cast<double>(max)) {
    throw DataError(path_ + "/config.json: \"" + key + "\" is not an integer from " + std::to_string(min) + " to " +
                    std::to_string(max));
  }
  return static_cast<std::int64_t>(*value);
}

std::int64_t Checkpoint::integer_or(const std::string& key, std::int64_t otherwise, std::int64_t min,
                                    std::int64_t max) const {
  return number(key) ? integer(key, min, max) : otherwise;
}
double Checkpoint::real_or(const std::string& key, double otherwise) const { return number(key).value_or(otherwise); }
bool Checkpoint::boolean_or(const std::string& key, bool otherwise) const {
  return number(key).value_or(otherwise ? 1 : 0) != 0;
}
std::vector<std::string> Checkpoint::classes() const { return classes_; }

std::string class_names_json(const std::vector<std::string>& classes) {
  Json labels = Json::object();
  for (std::size_t id = 0; id < classes.size(); ++id) labels[std::to_string(id)] = classes[id];
  return labels.dump();
}

}  // namespace fedctl::learn
