// Model folders in shards, and tensors in every floating point format.
#include "learn/torch/model_files.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

std::vector<float> weights_of(const std::string& path) {
  return test::copy(
      learn::make_factory(test::spec("llama", "full", test::texts(11), path))->make()->weights());
}

// The test llama in two shards; returns the index.
nlohmann::json write_shards(const std::string& folder) {
  const test::Values values = test::llama_values();
  std::filesystem::create_directories(folder);
  test::write_file(folder + "/config.json", test::llama_config().dump());
  const std::string names[2] = {"model-00001-of-00002.safetensors",
                                "model-00002-of-00002.safetensors"};
  test::Values parts[2];
  nlohmann::json index = {{"metadata", {{"total_size", 1}}}, {"weight_map", {}}};
  std::size_t at = 0;
  for (const auto& [name, tensor] : values) {
    parts[at % 2][name] = tensor;
    index["weight_map"][name] = names[at % 2];
    ++at;
  }
  for (std::size_t i = 0; i < 2; ++i) {
    test::write_file(folder + '/' + names[i], test::safetensors(parts[i], "F32"));
  }
  test::write_file(folder + '/' + kIndex, index.dump());
  return index;
}

}  // namespace

TEST_CASE("a model in shards is the model in one file", "[learn][torch][files]") {
  const test::Folder folder;
  test::write_model(folder.file("whole"), test::llama_config(), test::llama_values());
  write_shards(folder.file("shards"));
  CHECK(weights_of(folder.file("shards")) == weights_of(folder.file("whole")));
}

TEST_CASE("a bad index of shards is refused, index and entry named", "[learn][torch][files]") {
  const test::Folder folder;
  const nlohmann::json good = write_shards(folder.path());
  test::write_file(folder.path() + "-outside.safetensors",
                   test::safetensors(test::llama_values(), "F32"));
  const std::string name = "model.norm.weight";
  const auto refused = [&](const std::string& text, const std::string& reason) {
    test::write_file(folder.file(kIndex), text);
    const learn::LearnerSpec spec = test::spec("llama", "full", test::texts(11), folder.path());
    INFO(reason);
    REQUIRE_THROWS_WITH(learn::make_factory(spec),
                        Contains(folder.file(kIndex)) && Contains(reason));
    REQUIRE_THROWS_AS(learn::make_factory(spec), DataError);
  };
  const auto with = [&](const nlohmann::json& shard) {
    nlohmann::json index = good;
    index["weight_map"][name] = shard;
    return index.dump();
  };
  refused("", "not a JSON object");
  refused("{}", "no object \"weight_map\"");
  refused(R"({"weight_map": []})", "no object \"weight_map\"");
  refused(std::string(100000, '['), "nested too deeply");
  refused(std::string((16 << 20) + 1, ' '), "at most");
  refused(with(7), name + "\": is no text");
  refused(with(""), "is no name of a file in this folder");
  refused(with(".."), "is no name of a file in this folder");
  refused(with("../" + folder.path().substr(folder.path().rfind('/') + 1) + "-outside.safetensors"),
          "is no name of a file in this folder");
  refused(with("/etc/passwd"), "is no name of a file in this folder");
  refused(with("model-00003-of-00002.safetensors"), "which is not there");
  nlohmann::json more = good;
  more["weight_map"]["ghost"] = "model-00001-of-00002.safetensors";
  refused(more.dump(), "\"ghost\": model-00001-of-00002.safetensors holds no such tensor");
  std::string twice = good.dump();
  twice.insert(twice.find("\"weight_map\":{") + 14, "\"" + name + "\":\"a\",");
  refused(twice, "\"" + name + "\" appears twice");
  std::filesystem::remove(folder.path() + "-outside.safetensors");

  // A tensor that only the index leaves out is missing from the model.
  nlohmann::json fewer = good;
  fewer["weight_map"].erase(name);
  test::write_file(folder.file(kIndex), fewer.dump());
  CHECK_THROWS_WITH(weights_of(folder.path()), Contains("no tensor \"" + name));
}

TEST_CASE("halves are widened to the values they stand for", "[learn][torch][files]") {
  const std::string dtype = GENERATE("F16", "BF16");
  const test::Folder folder;
  test::write_model(folder.file("half"), test::llama_config(), test::llama_values(), dtype);
  test::write_model(folder.file("whole"), test::llama_config(), test::llama_values());
  const std::vector<float> half = weights_of(folder.file("half"));
  const std::vector<float> whole = weights_of(folder.file("whole"));
  const double unit = dtype == "F16" ? 1.0 / 1024 : 1.0 / 128;
  REQUIRE(half.size() == whole.size());
  for (std::size_t i = 0; i < half.size(); ++i) {
    REQUIRE(half[i] == Approx(whole[i]).epsilon(unit).margin(1e-4));
  }
  CHECK(half != whole);
}

TEST_CASE("a tokenizer with more tokens than the model is refused", "[learn][torch][files]") {
  const test::Folder folder;
  test::write_model(folder.path(), test::llama_config(), test::llama_values());
  const learn::LearnerSpec spec = test::spec("llama", "full", test::texts(12), folder.path());
  CHECK_THROWS_AS(learn::make_factory(spec), DataError);
  CHECK_THROWS_WITH(learn::make_factory(spec), Contains("12 tokens") && Contains("11"));
}
