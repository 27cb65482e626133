// Checkpoint: a model file: HF folder (config.json + model.safetensors) or llama2.c .bin. Torch-free. Everything read is
// hostile until checked; errors are DataError with the file and the place.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/safetensors.hpp"

namespace fedctl::learn {

class Checkpoint {
 public:
  // `kind` is the model kind the file is for.
  static std::unique_ptr<Checkpoint> open(const std::string& path, const std::string& kind);

  const std::string& path() const { return path_; }
  bool contains(const std::string& name) const;
  // Float32 values of exactly this shape, all finite.
  Tensor tensor(const std::string& name, const Shape& shape) const;

  // config.json.
  std::int64_t integer(const std::string& key, std::int64_t min, std::int64_t max) const;
  std::int64_t integer_or(const std::string& key, std::int64_t otherwise, std::int64_t min, std::int64_t max) const;
  double real_or(const std::string& key, double otherwise) const;
  bool boolean_or(const std::string& key, bool otherwise) const;
  std::vector<std::string> classes() const;  // id2label in order; empty if absent

 private:
  Checkpoint() = default;
  void load_folder();
  void load_llama2c();
  std::optional<double> number(const std::string& key) const;

  std::string path_;
  std::map<std::string, double> numbers_;  // config.json's numbers and booleans
  std::vector<std::string> classes_;
  std::optional<data::Safetensors> file_;
  TensorMap converted_;  // of a .bin
};

// JSON texts for files this project writes.
std::string class_names_json(const std::vector<std::string>& classes);

}  // namespace fedctl::learn
