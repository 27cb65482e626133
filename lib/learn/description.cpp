#include "learn/description.hpp"

#include <nlohmann/json.hpp>

namespace fedctl::learn {
namespace {

using Json = nlohmann::json;

constexpr const char* kWeights = "weights";
constexpr const char* kFrozen = "frozen/";

}  // namespace

void write_description(Learner& learner, const std::string& path) {
  AdapterFiles files = learner.adapter_files();
  Json blocks = Json::array();
  for (const Block& block : learner.layout().blocks()) {
    blocks.push_back({block.name, block.group, block.shape});
  }
  const Json described = {{"blocks", blocks},
                          {"names", files.names},
                          {"weights_name", files.weights_name},
                          {"config_name", files.config_name},
                          {"config", files.config},
                          {"metadata", files.metadata}};
  TensorMap tensors;
  tensors[kWeights] = Tensor::of(learner.weights(), {});
  for (auto& [name, tensor] : files.frozen) tensors[kFrozen + name] = std::move(tensor);
  data::write_safetensors(path, tensors,
                          {{"base", learner.base_digest()}, {"model", described.dump()}});
}

Description::Description(const std::string& path) : file_(data::Safetensors::open(path)) {
  try {
    const Json described = Json::parse(file_.metadata().at("model"));
    for (const Json& block : described.at("blocks")) {
      layout_.add(block.at(0), block.at(1), block.at(2).get<Shape>());
    }
    files_.names = described.at("names");
    files_.weights_name = described.at("weights_name");
    files_.config_name = described.at("config_name");
    files_.config = described.at("config");
    files_.metadata = described.at("metadata");
    static_cast<void>(base_digest());
  } catch (const std::exception& error) {
    throw DataError(path + ": describes no model: " + error.what());
  }
  if (file_.shape(kWeights) != Shape{static_cast<std::int64_t>(layout_.size())} ||
      files_.names.size() != layout_.blocks().size()) {
    throw DataError(path + ": describes no model: its weights do not fit its layout");
  }
}

std::vector<float> Description::weights() const {
  std::vector<float> weights(layout_.size());
  file_.f32_into(kWeights, weights);
  return weights;
}

AdapterFiles Description::adapter_files() const {
  AdapterFiles files = files_;
  for (const std::string& name : file_.names()) {
    if (name.starts_with(kFrozen)) {
      files.frozen[name.substr(std::string(kFrozen).size())] = file_.f32(name);
    }
  }
  return files;
}

}  // namespace fedctl::learn
