// Model files that are damaged or hostile: DataError with file and place, whatever is wrong.
#include <cmath>
#include <limits>

#include "learn/torch/model_files.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

void require_bad(const std::string& path, const std::string& reason, const char* model = "llama") {
  const data::DatasetInfo info = std::string(model) == "llama" ? test::texts(11) : test::images();
  const learn::LearnerSpec spec = test::spec(model, "full", info, path);
  INFO(path);
  REQUIRE_THROWS_WITH(learn::make_factory(spec), Contains(reason) && Contains(path));
  REQUIRE_THROWS_AS(learn::make_factory(spec), DataError);
}

std::string with_int(std::string bytes, std::size_t index, std::int32_t value) {
  std::memcpy(bytes.data() + 4 * index, &value, 4);
  return bytes;
}
std::string with_float(std::string bytes, std::size_t at, float value) {
  std::memcpy(bytes.data() + at, &value, 4);
  return bytes;
}

}  // namespace

TEST_CASE("bad llama2.c files are refused", "[learn][torch][files]") {
  const test::Folder folder;
  const std::string path = folder.file("model.bin");
  const std::string good = test::llama2c_bytes(test::llama_values());
  const auto refused = [&](const std::string& bytes, const std::string& reason) {
    test::write_file(path, bytes);
    require_bad(path, reason);
  };
  test::write_file(path, good);
  REQUIRE_NOTHROW(learn::make_factory(test::spec("llama", "full", test::texts(11), path)));

  require_bad(folder.file("absent.bin"), "no such file");
  refused("", "shorter than its header");
  refused(good.substr(0, 27), "shorter than its header");
  refused(good.substr(0, 28), "header asks for");
  refused(good.substr(0, good.size() - 1), "header asks for");
  refused(good + '\0', "header asks for");
  refused(with_int(good, 0, 0), "dim is 0");
  refused(with_int(good, 0, -8), "dim is -8");
  refused(with_int(good, 0, std::numeric_limits<std::int32_t>::max()), "dim is 2147483647");
  refused(with_int(good, 2, 1 << 20), "layers is 1048576");
  refused(with_int(good, 3, 3), "heads is 3");
  refused(with_int(good, 3, 8), "even parts");
  refused(with_int(good, 4, 3), "kv_heads is 3");
  refused(with_int(good, 5, 0), "vocabulary is 0");
  refused(with_int(good, 5, std::numeric_limits<std::int32_t>::min()), "vocabulary is -2147483648");
  refused(with_int(good, 5, 11), "header asks for");
  refused(with_int(good, 6, 1 << 20), "header asks for");
  // The largest header there is asks for exabytes; nothing of it is allocated.
  std::string huge = good;
  for (const std::size_t i : {0U, 1U, 5U, 6U}) huge = with_int(huge, i, 1 << 20);
  refused(with_int(huge, 2, 1 << 10), "header asks for");
  refused(with_float(good, 28 + 40, std::nanf("")), "not finite");
  refused(with_float(good, good.size() - 4, INFINITY), "not finite");
  refused("ak42" + good, "header");
}

TEST_CASE("bad config.json files are refused", "[learn][torch][files]") {
  const test::Folder folder;
  const nlohmann::json good = test::llama_config();
  const auto refused = [&](const std::string& config, const std::string& reason) {
    test::write_model(folder.path(), good, test::llama_values());
    test::write_file(folder.file("config.json"), config);
    require_bad(folder.path(), reason);
  };
  const auto with = [&](const std::string& key, const nlohmann::json& value) {
    nlohmann::json config = good;
    config[key] = value;
    return config.dump();
  };
  std::filesystem::create_directories(folder.file("empty"));
  require_bad(folder.file("empty"), "config.json: cannot be read");
  refused("", "config.json");
  refused("{", "config.json");
  refused("[1]", "not a JSON object");
  refused("{\"hidden_size\": 1e999}", "config.json");
  refused(std::string(1 << 16, '['), "config.json");
  refused(std::string((16 << 20) + 1, ' '), "at most");
  for (const auto& [key, value] : good.items()) {
    // These have a default in HF's class.
    if (key == "model_type" || key == "hidden_act" || key == "rms_norm_eps" ||
        key == "rope_theta" || key == "max_position_embeddings" || key == "tie_word_embeddings" ||
        key == "num_key_value_heads") {
      continue;
    }
    nlohmann::json config = good;
    config.erase(key);
    refused(config.dump(), key + " is missing");
    refused(with(key, "8"), key + " is missing or no number");
    refused(with(key, 0), key + " is 0");
    refused(with(key, -1), key + " is -1");
    refused(with(key, 2.5), key + " is 2.5");
    refused(with(key, 1e18), key + " is 1e+18");
  }
  refused(with("model_type", "gpt2"), "model_type is \"gpt2\", expected \"llama\"");
  refused(with("hidden_act", "gelu"), "hidden_act");
  refused(with("attention_bias", true), "attention_bias");
  refused(with("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}), "rope_scaling.rope_type");
  refused(with("num_key_value_heads", 3), "num_key_value_heads is 3");
  refused(with("head_dim", 3), "head_dim 3");
  refused(with("rms_norm_eps", "tiny"), "rms_norm_eps is no number");
  refused(with("rms_norm_eps", -1), "rms_norm_eps is -1");
  refused(with("id2label", {{"0", "a"}, {"2", "b"}}), "id2label.1");
  // Plausible numbers that the tensors contradict: no memory is asked for on their word.
  refused(with("hidden_size", 65536), "expected [11,65536]");
  refused(with("vocab_size", 1 << 20), "expected [1048576,8]");
  refused(with("num_hidden_layers", 3), "no tensor \"model.layers.2.");
}

TEST_CASE("bad tensors are refused", "[learn][torch][files]") {
  const test::Folder folder;
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const auto refused = [&](const std::function<void(test::Values&)>& damage,
                           const std::string& reason) {
    test::Values values = test::llama_values();
    damage(values);
    test::write_model(folder.path(), test::llama_config(), values);
    require_bad(folder.path(), reason);
  };
  refused([&](test::Values& v) { v.erase(name); }, "no tensor \"" + name);
  refused([&](test::Values& v) { v[name].first = {8, 12}; }, "is [8,12], expected [12,8]");
  refused([&](test::Values& v) { v[name].first = {96}; }, "is [96], expected [12,8]");
  const auto poisoned = [&](float value) {
    test::Values values = test::llama_values();
    values[name].second[17] = value;
    test::write_model(folder.path(), test::llama_config(), values);
    const learn::LearnerSpec spec = test::spec("llama", "full", test::texts(11), folder.path());
    REQUIRE_THROWS_WITH(learn::make_factory(spec), Contains(name));
    REQUIRE_THROWS_AS(learn::make_factory(spec), DataError);
  };
  poisoned(std::nanf(""));
  poisoned(-INFINITY);

  test::write_model(folder.path(), test::llama_config(), test::llama_values());
  const std::string whole = test::read_file(folder.file("model.safetensors"));
  std::filesystem::remove(folder.file("model.safetensors"));
  const learn::LearnerSpec spec = test::spec("llama", "full", test::texts(11), folder.path());
  CHECK_THROWS_AS(learn::make_factory(spec), DataError);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, whole.size() - 1}) {
    test::write_file(folder.file("model.safetensors"), whole.substr(0, size));
    CHECK_THROWS_AS(learn::make_factory(spec), DataError);
  }
}

TEST_CASE("a model of another kind is refused", "[learn][torch][files]") {
  const test::Folder folder;
  test::write_model(folder.path(), test::llama_config(), test::llama_values());
  require_bad(folder.path(), "model_type is \"llama\", expected \"vit\"", "vit");
  require_bad(folder.path(), "model_type is \"llama\", expected \"fedctl_mlp\"", "mlp");
  require_bad(folder.file("model.safetensors"), "reads a folder", "vit");
}
