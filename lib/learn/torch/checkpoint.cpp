#include "learn/torch/checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "learn/torch/kwt_file.hpp"
#include "learn/torch/llama2c.hpp"

namespace fedctl::learn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::uintmax_t kConfigBytesMax = std::uintmax_t{16} << 20;  // id2label may be long
constexpr int kConfigDepthMax = 3;

Json read_json(const std::string& path) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) throw DataError(path + ": cannot be read", "model.path takes a folder that holds it");
  if (size > kConfigBytesMax) {
    throw DataError(path + ": has " + std::to_string(size) + " bytes, at most " +
                    std::to_string(kConfigBytesMax) + " allowed");
  }
  std::ifstream in(path, std::ios::binary);
  try {
    Json json = Json::parse(in);
    if (!json.is_object()) throw DataError(path + ": not a JSON object");
    return json;
  } catch (const Json::exception& fault) {
    throw DataError(path + ": " + fault.what());
  }
}

// Numbers and texts of nested objects and lists under dotted keys.
void flatten(const Json& json, const std::string& prefix, int depth,
             std::map<std::string, double>& numbers, std::map<std::string, std::string>& texts) {
  if (depth > kConfigDepthMax) return;
  std::size_t index = 0;
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix + (json.is_array() ? std::to_string(index++) : key);
    if (value.is_structured()) flatten(value, name + '.', depth + 1, numbers, texts);
    if (value.is_number()) numbers[name] = value.get<double>();
    if (value.is_boolean()) numbers[name] = value.get<bool>() ? 1 : 0;
    if (value.is_string()) texts[name] = value.get<std::string>();
  }
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const std::string& path, const std::string& kind) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->path_ = checkpoint->config_path_ = path;
  std::error_code error;
  if (kind == "kwt" && fs::exists(path, error) && !fs::exists(path + "/config.json", error)) {
    KwtFile model = read_kwt_file(path);
    checkpoint->numbers_ = std::move(model.config);
    checkpoint->classes_ = std::move(model.classes);
    checkpoint->file_.emplace(data::SafetensorsFolder::of(std::move(model.tensors)));
  } else if (fs::is_directory(path, error)) {
    checkpoint->load_folder();
  } else if (fs::is_regular_file(path, error)) {
    if (kind != "llama") {
      throw DataError(path + ": is a file, but model.kind " + kind + " reads a folder",
                      "give the folder that holds config.json and model.safetensors");
    }
    Llama2c model = read_llama2c(path);
    checkpoint->numbers_ = std::move(model.config);
    checkpoint->converted_ = std::move(model.tensors);
  } else {
    throw DataError(path + ": no such file or folder (model.path)",
                    "paths are relative to the current directory");
  }
  return checkpoint;
}

void Checkpoint::load_folder() {
  config_path_ = path_ + "/config.json";
  const Json json = read_json(config_path_);
  flatten(json, "", 0, numbers_, texts_);
  const auto labels = json.find("id2label");
  if (labels != json.end() && labels->is_object()) {
    for (std::size_t id = 0; id < labels->size(); ++id) {
      const auto name = texts_.find("id2label." + std::to_string(id));
      if (name == texts_.end()) fail("id2label." + std::to_string(id), "is missing or no text");
      classes_.push_back(name->second);
    }
  }
  file_.emplace(data::SafetensorsFolder::open(path_));
}

std::string Checkpoint::name_in_file(const std::string& name) const {
  const auto known = [&](const std::string& candidate) {
    return file_ ? file_->contains(candidate) : converted_.contains(candidate);
  };
  if (known(name)) return name;
  for (const std::string_view prefix : {"vit.", "model.", "bert.", "transformer."}) {
    if (!name.starts_with(prefix)) continue;
    if (const std::string rest = name.substr(prefix.size()); known(rest)) return rest;
  }
  // BERT's first files name the norms' parameters as TensorFlow does.
  for (const auto& [ours, theirs] : {std::pair("LayerNorm.weight", "LayerNorm.gamma"),
                                     std::pair("LayerNorm.bias", "LayerNorm.beta")}) {
    if (!name.ends_with(ours)) continue;
    return name_in_file(name.substr(0, name.size() - std::strlen(ours)) + theirs);
  }
  return "";
}

bool Checkpoint::contains(const std::string& name) const { return !name_in_file(name).empty(); }

void Checkpoint::require(const std::string& name, const Shape& shape) const {
  const std::string where = name_in_file(name);
  if (where.empty()) {
    throw DataError(path_ + ": has no tensor \"" + name + '"', "is it a model of another kind?");
  }
  const Shape& found = file_ ? file_->file(where).shape(where) : converted_.at(where).shape;
  if (found == shape) return;
  throw DataError(path_ + ": tensor \"" + where + "\" is " + to_string(found) + ", expected " +
                  to_string(shape));
}

void Checkpoint::read(const std::string& name, std::span<float> out) const {
  const std::string where = name_in_file(name);
  if (file_) return file_->file(where).f32_into(where, out);
  const std::span<const float> values = converted_.at(where).f32();
  FEDCTL_ASSERT(values.size() == out.size());
  for (const float value : values) {
    if (std::isfinite(value)) continue;
    throw DataError(path_ + ": tensor \"" + where + "\" has a value that is not finite");
  }
  std::ranges::copy(values, out.begin());
}

Tensor Checkpoint::tensor(const std::string& name, const Shape& shape) const {
  require(name, shape);
  Tensor tensor = Tensor::zeros(DType::f32, shape);
  read(name, tensor.f32());
  return tensor;
}

void Checkpoint::release() {
  file_.reset();
  converted_.clear();
}

void Checkpoint::fail(const std::string& key, const std::string& what) const {
  throw DataError(config_path_ + ": " + key + ' ' + what);
}

bool Checkpoint::has(const std::string& key) const {
  return numbers_.contains(key) || texts_.contains(key);
}

std::int64_t Checkpoint::integer(const std::string& key, std::int64_t min, std::int64_t max) const {
  const auto found = numbers_.find(key);
  if (found == numbers_.end()) fail(key, "is missing or no number");
  const double value = found->second;
  if (value != std::floor(value) || value < static_cast<double>(min) ||
      value > static_cast<double>(max)) {
    fail(key, "is " + json_of(value) + ", expected an integer from " + std::to_string(min) +
                  " to " + std::to_string(max));
  }
  return static_cast<std::int64_t>(value);
}

std::int64_t Checkpoint::integer_or(const std::string& key, std::int64_t otherwise,
                                    std::int64_t min, std::int64_t max) const {
  return has(key) ? integer(key, min, max) : otherwise;
}

double Checkpoint::real_or(const std::string& key, double otherwise, double min, double max) const {
  if (!has(key)) return otherwise;
  const auto found = numbers_.find(key);
  if (found == numbers_.end()) fail(key, "is no number");
  if (!(found->second >= min && found->second <= max)) {
    fail(key,
         "is " + json_of(found->second) + ", expected " + json_of(min) + " to " + json_of(max));
  }
  return found->second;
}

bool Checkpoint::boolean_or(const std::string& key, bool otherwise) const {
  const auto found = numbers_.find(key);
  return found == numbers_.end() ? otherwise : found->second != 0;
}

void Checkpoint::require_text(const std::string& key, std::string_view expected) const {
  const auto found = texts_.find(key);
  if (found == texts_.end() || found->second == expected) return;
  fail(key, "is \"" + found->second + "\", expected \"" + std::string(expected) + '"');
}

void Checkpoint::require_off(const std::string& key) const {
  if (boolean_or(key, false)) fail(key, "is on, which this family does not have");
}

std::string json_object(const std::vector<std::pair<std::string, std::string>>& members) {
  Json object = Json::object();
  for (const auto& [key, value] : members) object[key] = Json::parse(value);
  return object.dump(2, ' ', false, Json::error_handler_t::replace);
}
std::string json_of(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}
std::string json_of(double number) { return Json(number).dump(); }

std::vector<std::pair<std::string, std::string>> json_of_classes(
    const std::vector<std::string>& classes) {
  Json labels = Json::object(), ids = Json::object();
  for (std::size_t id = 0; id < classes.size(); ++id) {
    labels[std::to_string(id)] = classes[id];
    ids[classes[id]] = id;
  }
  const auto text = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  return {{"id2label", text(labels)}, {"label2id", text(ids)}};
}

}  // namespace fedctl::learn
