#include "learn/description.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "learn/quadratic.hpp"

using namespace fedctl;

namespace {

const std::string kFolder = std::string(FEDCTL_BINARY_DIR) + "/description_test";

std::unique_ptr<learn::Learner> quadratic() {
  learn::LearnerSpec spec;
  spec.model.kind = "quadratic";
  spec.adapter.kind = "full";
  spec.data.input_shape = {3};
  return learn::make_quadratic_factory(spec)->make();
}

std::string fresh(const std::string& name) {
  std::filesystem::create_directories(kFolder);
  std::filesystem::remove_all(kFolder + '/' + name);
  return kFolder + '/' + name;
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a description has what the learner has, and saves what it saves", "[learn]") {
  const std::string path = fresh("whole");
  const auto learner = quadratic();
  learner->weights()[1] = 2.5F;
  learn::write_description(*learner, path);
  const learn::Description described(path);
  std::filesystem::remove(path);

  CHECK(described.layout() == learner->layout());
  CHECK(described.weights() == std::vector<float>{0, 2.5F, 0});
  CHECK(described.base_digest() == learner->base_digest());
  const std::map<std::string, std::string> provenance = {{"round", "4"}};
  const std::string by_learner = fresh("by_learner"), by_description = fresh("by_description");
  learner->save_adapter(by_learner, provenance);
  learn::save_adapter(described.adapter_files(), described.layout(), described.weights(),
                      by_description, provenance);
  for (const char* file : {"/config.json", "/model.safetensors"}) {
    CHECK_FALSE(bytes_of(by_learner + file).empty());
    CHECK(bytes_of(by_learner + file) == bytes_of(by_description + file));
  }
}

TEST_CASE("a file that describes no model is refused", "[learn]") {
  const std::string path = fresh("other");
  const auto refused = [&](const TensorMap& tensors,
                           const std::map<std::string, std::string>& metadata) {
    data::write_safetensors(path, tensors, metadata);
    CHECK_THROWS_AS(learn::Description(path), DataError);
  };
  const auto learner = quadratic();
  learn::write_description(*learner, path);
  const auto metadata = data::Safetensors::open(path).metadata();
  const Tensor three = Tensor::zeros(DType::f32, {3}), four = Tensor::zeros(DType::f32, {4});
  data::write_safetensors(path, {{"weights", three}}, metadata);
  CHECK_NOTHROW(learn::Description(path));

  refused({{"weights", four}}, metadata);
  refused({{"other", three}}, metadata);
  refused({{"weights", three}}, {});
  refused({{"weights", three}}, {{"base", ""}, {"model", "{}"}});
  refused({{"weights", three}}, {{"base", ""}, {"model", "["}});
  refused({{"weights", three}}, {{"model", metadata.at("model")}});
}
