// The tensors of a Hugging Face model folder: model.safetensors, or the shards that
// model.safetensors.index.json names ("weight_map": tensor to file). A hostile index is refused
// (DataError naming the index and the entry): shards outside the folder, missing ones, tensors that
// their shard does not hold.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/safetensors.hpp"

namespace fedctl::data {

class SafetensorsFolder {
 public:
  static SafetensorsFolder open(const std::string& folder);
  static SafetensorsFolder of(Safetensors file);  // a single file that stands for a folder

  bool contains(const std::string& name) const { return shard_of_.contains(name); }
  // The file that holds the tensor. Precondition: contains(name).
  const Safetensors& file(const std::string& name) const { return shards_[shard_of_.at(name)]; }

 private:
  void open_shards(const std::string& folder, const std::string& index);

  std::vector<Safetensors> shards_;
  std::map<std::string, std::size_t> shard_of_;
};

}  // namespace fedctl::data
