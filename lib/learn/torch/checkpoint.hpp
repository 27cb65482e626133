// Checkpoint: a model file, which is an HF folder (config.json and model.safetensors, whole or in
// shards), a llama2.c .bin, or a Keyword Transformer's .safetensors (kwt_file.hpp). Torch-free.
// Everything read is hostile until checked; errors are DataError with the file and the place in it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/safetensors_folder.hpp"

namespace fedctl::learn {

class Checkpoint {
 public:
  // `kind` is the model kind the file is for; a single file must be a llama or a kwt.
  static std::unique_ptr<Checkpoint> open(const std::string& path, const std::string& kind);

  const std::string& path() const { return path_; }
  // A base model without its task's head has the names of one with it less their first part
  // ("vit.", "model.", "bert.", "transformer."); both are found by the longer name. Not after
  // release().
  bool contains(const std::string& name) const;
  // Throws unless there is a tensor of exactly this shape. Not after release().
  void require(const std::string& name, const Shape& shape) const;
  // Its float32 values, all finite, into memory of the caller's: a large model never stands in
  // memory twice. Precondition: require() passed, and `out` has its elements.
  void read(const std::string& name, std::span<float> out) const;
  Tensor tensor(const std::string& name, const Shape& shape) const;  // both
  // Gives the tensors' memory back and closes the file; config.json's values stay.
  void release();
  bool released() const { return !file_ && converted_.empty(); }

  // config.json. Keys below an object or a list are dotted: "rope_parameters.rope_theta".
  bool has(const std::string& key) const;  // present, and neither null nor an object or list
  std::int64_t integer(const std::string& key, std::int64_t min, std::int64_t max) const;
  std::int64_t integer_or(const std::string& key, std::int64_t otherwise, std::int64_t min,
                          std::int64_t max) const;
  double real_or(const std::string& key, double otherwise, double min, double max) const;
  bool boolean_or(const std::string& key, bool otherwise) const;
  // Throws unless `key` is absent or this text: what else it may be is not implemented.
  void require_text(const std::string& key, std::string_view expected) const;
  // The same for a key that must be absent or false.
  void require_off(const std::string& key) const;
  const std::vector<std::string>& classes() const { return classes_; }  // id2label, in order

 private:
  Checkpoint() = default;
  void load_folder();
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;
  std::string name_in_file(const std::string& name) const;

  std::string path_;
  std::string config_path_;  // what says the numbers: config.json, or the model file itself
  std::map<std::string, double> numbers_;  // config.json's numbers and booleans
  std::map<std::string, std::string> texts_;
  std::vector<std::string> classes_;
  std::optional<data::SafetensorsFolder> file_;
  TensorMap converted_;  // of a .bin
};

// JSON for config.json of the models this project writes: key, then a value already in JSON.
std::string json_object(const std::vector<std::pair<std::string, std::string>>& members);
std::string json_of(const std::string& text);
std::string json_of(double number);  // shortest form that reads back the same
// "id2label" and "label2id" of these class names.
std::vector<std::pair<std::string, std::string>> json_of_classes(
    const std::vector<std::string>& classes);

}  // namespace fedctl::learn
