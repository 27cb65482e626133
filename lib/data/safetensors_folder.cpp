#include "data/safetensors_folder.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/errors.hpp"
#include "base/limits.hpp"

namespace fedctl::data {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::uintmax_t kIndexBytesMax = std::uintmax_t{16} << 20;
constexpr int kIndexDepthMax = 8;
constexpr std::size_t kShardsMax = 1024;
constexpr const char* kWhole = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

Json read_index(const std::string& path) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error || size > kIndexBytesMax) {
    throw DataError(path + ": has " + std::to_string(error ? 0 : size) + " bytes, at most " +
                    std::to_string(kIndexBytesMax) + " are read");
  }
  // nlohmann keeps the last of two equal keys: which shard was meant would be a guess.
  std::set<std::string> seen;
  std::string twin;
  bool too_deep = false;
  const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    too_deep = too_deep || depth > kIndexDepthMax;
    if (event == Json::parse_event_t::key && depth == 2 &&
        !seen.insert(parsed.get_ref<const std::string&>()).second) {
      twin = parsed.get<std::string>();
    }
    return !too_deep;
  };
  std::ifstream in(path, std::ios::binary);
  Json index = Json::parse(in, watch, false);
  if (too_deep) throw DataError(path + ": nested too deeply");
  if (!index.is_object()) throw DataError(path + ": not a JSON object");
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw DataError(path + ": no object \"weight_map\", expected tensor names and their files");
  }
  if (!twin.empty()) throw DataError(path + ": \"" + twin.substr(0, 255) + "\" appears twice");
  return index["weight_map"];
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() <= limits::kNameBytesMax && name != "." && name != ".." &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

SafetensorsFolder SafetensorsFolder::open(const std::string& folder) {
  SafetensorsFolder model;
  const std::string index = folder + '/' + kIndex;
  std::error_code error;
  if (!fs::exists(folder + '/' + kWhole, error) && fs::exists(index, error)) {
    model.open_shards(folder, index);
    return model;
  }
  return of(Safetensors::open(folder + '/' + kWhole));
}

SafetensorsFolder SafetensorsFolder::of(Safetensors file) {
  SafetensorsFolder model;
  for (const std::string& name : file.names()) model.shard_of_[name] = 0;
  model.shards_.push_back(std::move(file));
  return model;
}

void SafetensorsFolder::open_shards(const std::string& folder, const std::string& index) {
  std::map<std::string, std::size_t> opened;
  const Json weight_map = read_index(index);
  for (const auto& [name, file] : weight_map.items()) {
    const std::string place =
        index + ": weight_map \"" + name.substr(0, limits::kNameBytesMax) + "\": ";
    if (!file.is_string()) throw DataError(place + "is no text, expected a file name");
    const std::string shard = file;
    if (!is_plain_name(shard)) {
      throw DataError(place + "\"" + shard.substr(0, limits::kNameBytesMax) +
                          "\" is no name of a file in this folder",
                      "shards stand beside their index");
    }
    auto found = opened.find(shard);
    if (found == opened.end()) {
      if (shards_.size() == kShardsMax) {
        throw DataError(place + "more than " + std::to_string(kShardsMax) + " shards");
      }
      const std::string path = folder + '/' + shard;
      std::error_code error;
      if (!fs::exists(path, error)) {
        throw DataError(place + "names " + shard + ", which is not there",
                        "was the whole model downloaded?");
      }
      shards_.push_back(Safetensors::open(path));
      found = opened.emplace(shard, shards_.size() - 1).first;
    }
    if (!shards_[found->second].contains(name)) {
      throw DataError(place + shard + " holds no such tensor",
                      "index and shards do not belong together");
    }
    shard_of_[name] = found->second;
  }
}

}  // namespace fedctl::data
