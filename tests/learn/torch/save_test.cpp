// What save_adapter() leaves: PEFT folders with the names PEFT expects, and whole models that
// model.path takes again.
#include "data/safetensors.hpp"
#include "learn/description.hpp"
#include "learn/torch/model_files.hpp"

using namespace fedctl;

namespace {

nlohmann::json json_file(const std::string& path) {
  return nlohmann::json::parse(test::read_file(path));
}

// A trained learner of this kind, saved to `folder`.
std::unique_ptr<learn::Learner> saved(const learn::LearnerSpec& spec, const std::string& folder) {
  auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner);
  learner->save_adapter(folder, {{"run", "quickstart"}, {"round", "3"}});
  return learner;
}

std::vector<float> logits(learn::Learner& learner, const data::Batch& batch) {
  return test::copy(learner.logits(batch).f32());
}

}  // namespace

TEST_CASE("a whole model that is saved and loaded gives the same logits", "[learn][torch][save]") {
  const std::string model = GENERATE("mlp", "vit", "llama", "bert", "gpt2");
  const std::string adapter = GENERATE("full", "head");
  INFO(model << " with " << adapter);
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec(model, adapter, test::info_for(model));
  const auto learner = saved(spec, folder.file("deep/model"));
  const data::Batch batch = test::batch_for(spec, 3);
  const std::vector<float> expected = logits(*learner, batch);

  for (const char* next : {"full", "lora", "head"}) {
    const learn::LearnerSpec again =
        test::spec(model, next, test::info_for(model), folder.file("deep/model"), 1234);
    const auto loaded = learn::make_factory(again)->make();
    CHECK(logits(*loaded, batch) == expected);
  }
  const auto file = data::Safetensors::open(folder.file("deep/model/model.safetensors"));
  CHECK(file.metadata().at("run") == "quickstart");
  CHECK(file.metadata().at("format") == "pt");
  CHECK_FALSE(std::filesystem::exists(folder.file("deep/model/config.json.tmp")));
}

TEST_CASE("config.json says what transformers needs", "[learn][torch][save]") {
  const test::Folder folder;
  saved(test::spec("vit", "full", test::images()), folder.file("vit"));
  const nlohmann::json vit = json_file(folder.file("vit/config.json"));
  CHECK(vit["architectures"] == nlohmann::json{"ViTForImageClassification"});
  CHECK(vit["model_type"] == "vit");
  CHECK(vit["hidden_size"] == 12);
  CHECK(vit["image_size"] == 8);
  CHECK(vit["patch_size"] == 4);
  CHECK(vit["num_channels"] == 1);
  CHECK(vit["layer_norm_eps"] == 1e-12);
  CHECK(vit["id2label"] == nlohmann::json{{"0", "cat"}, {"1", "dog"}, {"2", "owl"}});
  CHECK(vit["label2id"] == nlohmann::json{{"cat", 0}, {"dog", 1}, {"owl", 2}});

  saved(test::spec("llama", "full", test::texts()), folder.file("tied"));
  CHECK(json_file(folder.file("tied/config.json"))["tie_word_embeddings"] == true);
  CHECK_FALSE(
      data::Safetensors::open(folder.file("tied/model.safetensors")).contains("lm_head.weight"));
  saved(test::spec("llama", "head", test::texts()), folder.file("untied"));
  const nlohmann::json llama = json_file(folder.file("untied/config.json"));
  CHECK(llama["tie_word_embeddings"] == false);
  CHECK(llama["architectures"] == nlohmann::json{"LlamaForCausalLM"});
  CHECK(llama["rms_norm_eps"] == 1e-5);
  CHECK(
      data::Safetensors::open(folder.file("untied/model.safetensors")).contains("lm_head.weight"));
}

TEST_CASE("a classifier for other classes is made afresh, all else is kept",
          "[learn][torch][save]") {
  const std::string model = GENERATE("mlp", "vit", "bert");
  const test::Folder folder;
  const data::DatasetInfo info = test::info_for(model);
  const auto original = saved(test::spec(model, "full", info), folder.path());

  data::DatasetInfo other = info;
  other.classes = {"cat", "owl", "dog"};
  data::DatasetInfo more = info;
  more.classes.push_back("emu");
  for (const data::DatasetInfo& changed : {other, more}) {
    const auto loaded =
        learn::make_factory(test::spec(model, "full", changed, folder.path(), 99))->make();
    for (const Block& block : loaded->layout().blocks()) {
      CAPTURE(block.name);
      const auto found = loaded->weights().subspan(block.offset, block.count);
      if (block.name == "classifier.bias") {
        CHECK(std::ranges::all_of(found, [](float value) { return value == 0; }));
        continue;
      }
      const Block& twin = original->layout().block(block.name);
      const auto before = original->weights().subspan(twin.offset, twin.count);
      CHECK((test::copy(found) == test::copy(before)) == (block.name != "classifier.weight"));
    }
  }
}

TEST_CASE("LoRA is saved as a PEFT folder", "[learn][torch][save]") {
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  const auto learner = saved(spec, folder.path());
  const nlohmann::json config = json_file(folder.file("adapter_config.json"));
  CHECK(config["peft_type"] == "LORA");
  CHECK(config["r"] == 3);
  CHECK(config["lora_alpha"] == 6);
  CHECK(config["target_modules"] == nlohmann::json{"q_proj", "v_proj"});  // since transformers 5
  CHECK(config["modules_to_save"] == nlohmann::json{"classifier"});
  CHECK(config["base_model_name_or_path"].is_null());
  CHECK(config["task_type"].is_null());
  CHECK(config["bias"] == "none");

  const auto file = data::Safetensors::open(folder.file("adapter_model.safetensors"));
  CHECK(file.names().size() == learner->layout().blocks().size());
  for (const Block& block : learner->layout().blocks()) {
    std::string name = block.name;
    for (const auto& [from, to] :
         {std::pair("encoder.layer", "layers"), std::pair("attention.query", "q_proj"),
          std::pair("attention.value", "v_proj")}) {
      const std::size_t at = name.find(from);
      if (at != std::string::npos) name.replace(at, std::strlen(from), to);
    }
    const Tensor found = file.f32("base_model.model." + name);
    CHECK(found.shape == block.shape);
    CHECK(test::copy(found.f32()) ==
          test::copy(learner->weights().subspan(block.offset, block.count)));
  }
  CHECK(file.metadata().at("round") == "3");
  CHECK_FALSE(std::filesystem::exists(folder.file("model.safetensors")));
}

TEST_CASE("PEFT's target modules match exactly the layers that were adapted",
          "[learn][torch][save]") {
  // PEFT takes a module whose name is a target or ends with "." and a target.
  struct Case {
    std::string model;
    std::vector<std::string> targets;
    nlohmann::json expected;
  };
  const Case c =
      GENERATE(Case{"llama", {"query", "value"}, {"q_proj", "v_proj"}},
               Case{"llama", {"down"}, nlohmann::json::array({"down_proj"})},
               // The names of transformers 5, which are not those of the model's file.
               Case{"vit", {"fc2"}, nlohmann::json::array({"fc2"})},
               Case{"vit", {"output"}, nlohmann::json::array({"o_proj"})},
               Case{"vit", {"fc1", "fc2", "output"}, {"fc1", "fc2", "o_proj"}},
               Case{"bert", {"output"}, nlohmann::json::array({"attention.output.dense"})},
               Case{"gpt2", {"qkv"}, nlohmann::json::array({"c_attn"})},
               Case{"gpt2", {"output"}, nlohmann::json::array({"attn.c_proj"})},
               Case{"mlp", {"fc1"}, {"0", "1"}});
  INFO(c.model << ' ' << c.expected);
  const test::Folder folder;
  learn::LearnerSpec spec = test::spec(c.model, "lora", test::info_for(c.model));
  dynamic_cast<learn::LoraOptions&>(*spec.adapter.options).targets = c.targets;
  saved(spec, folder.path());
  const nlohmann::json config = json_file(folder.file("adapter_config.json"));
  CHECK(config["target_modules"] == c.expected);
  const bool language = test::info_for(c.model).task == data::Task::language;
  const std::map<std::string, nlohmann::json> tasks = {
      {"llama", "CAUSAL_LM"}, {"gpt2", "CAUSAL_LM"}, {"bert", "SEQ_CLS"}};
  CHECK(config["task_type"] == (tasks.contains(c.model) ? tasks.at(c.model) : nlohmann::json()));
  // As PEFT puts it: GPT-2's matrices are stored input first.
  CHECK(config["fan_in_fan_out"] == (c.model == "gpt2"));
  const char* head = language ? "lm_head" : "classifier";
  CHECK(config["modules_to_save"] == nlohmann::json::array({head}));
}

TEST_CASE("a prompt is saved as a PEFT folder", "[learn][torch][save]") {
  const test::Folder folder;
  test::write_model(folder.file("base"), test::llama_config(), test::llama_values());
  learn::LearnerSpec spec = test::spec("llama", "prompt", test::texts(11), folder.file("base"));
  dynamic_cast<learn::PromptOptions&>(*spec.adapter.options).train_head = false;
  const auto learner = saved(spec, folder.file("out"));
  const nlohmann::json config = json_file(folder.file("out/adapter_config.json"));
  CHECK(config["peft_type"] == "PROMPT_TUNING");
  CHECK(config["task_type"] == "CAUSAL_LM");
  CHECK(config["num_virtual_tokens"] == 3);
  CHECK(config["token_dim"] == 8);
  CHECK(config["base_model_name_or_path"] == folder.file("base"));
  const auto file = data::Safetensors::open(folder.file("out/adapter_model.safetensors"));
  CHECK(file.names() == std::vector<std::string>{"prompt_embeddings"});
  CHECK(test::copy(file.f32("prompt_embeddings").f32()) == test::copy(learner->weights()));
}

TEST_CASE("every adapter PEFT knows is saved under its names", "[learn][torch][save]") {
  struct Case {
    std::string model, adapter, type;
    std::vector<std::string> names;
    std::map<std::string, nlohmann::json> members;
  };
  const std::string llama = "base_model.model.model.layers.1.";
  const auto list = [](const std::vector<std::string>& texts) { return nlohmann::json(texts); };
  const std::vector<Case> cases = {
      {"llama",
       "dora",
       "LORA",
       {llama + "self_attn.q_proj.lora_A.weight", llama + "self_attn.q_proj.lora_B.weight",
        llama + "self_attn.q_proj.lora_magnitude_vector"},
       {{"use_dora", true}, {"r", 3}, {"target_modules", list({"q_proj", "v_proj"})}}},
      {"llama",
       "ia3",
       "IA3",
       {llama + "self_attn.k_proj.ia3_l", llama + "mlp.down_proj.ia3_l"},
       {{"target_modules", list({"down_proj", "k_proj", "v_proj"})},
        {"feedforward_modules", list({"down_proj"})},
        {"fan_in_fan_out", false}}},
      {"gpt2",
       "ia3",
       "IA3",
       {"base_model.model.transformer.h.0.attn.c_attn.ia3_l",
        "base_model.model.transformer.h.0.mlp.c_proj.ia3_l"},
       {{"target_modules", list({"c_attn", "mlp.c_proj"})},
        {"feedforward_modules", list({"mlp.c_proj"})},
        {"fan_in_fan_out", true}}},
      {"bert",
       "vera",
       "VERA",
       {"base_model.vera_A", "base_model.vera_B",
        "base_model.model.bert.encoder.layer.0.attention.self.query.vera_lambda_b",
        "base_model.model.bert.encoder.layer.0.attention.self.query.vera_lambda_d"},
       {{"r", 5}, {"save_projection", true}, {"d_initial", 0.1}, {"task_type", "SEQ_CLS"}}},
      {"llama",
       "prefix",
       "PREFIX_TUNING",
       {"prompt_embeddings"},
       {{"num_virtual_tokens", 3},
        {"num_layers", 2},
        {"num_attention_heads", 2},
        {"token_dim", 8},
        {"prefix_projection", false}}}};
  for (const Case& c : cases) {
    INFO(c.model << " with " << c.adapter);
    const test::Folder folder;
    saved(test::spec(c.model, c.adapter, test::info_for(c.model)), folder.path());
    const nlohmann::json config = json_file(folder.file("adapter_config.json"));
    CHECK(config["peft_type"] == c.type);
    for (const auto& [key, value] : c.members) {
      CAPTURE(key);
      CHECK(config[key] == value);
    }
    const auto file = data::Safetensors::open(folder.file("adapter_model.safetensors"));
    for (const std::string& name : c.names) {
      CAPTURE(name);
      CHECK(file.contains(name));
    }
    const char* head = c.model == "bert" ? "classifier" : "lm_head";
    CHECK(config["modules_to_save"] == nlohmann::json::array({head}));
  }
}

TEST_CASE("bitfit is saved as a whole model", "[learn][torch][save]") {
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("vit", "bitfit", test::images());
  const auto learner = saved(spec, folder.path());
  const data::Batch batch = test::batch_for(spec, 3);
  const auto loaded =
      learn::make_factory(test::spec("vit", "full", test::images(), folder.path()))->make();
  CHECK(logits(*loaded, batch) == logits(*learner, batch));
  CHECK_FALSE(std::filesystem::exists(folder.file("adapter_config.json")));
}

TEST_CASE("a description saves what its learner saves", "[learn][torch][save]") {
  const std::string adapter = GENERATE("lora", "vera", "prompt", "head");
  INFO(adapter);
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("vit", adapter, test::images());
  const auto learner = saved(spec, folder.file("by_learner"));
  learn::write_description(*learner, folder.file("described"));
  const learn::Description described(folder.file("described"));
  CHECK(described.layout() == learner->layout());
  CHECK(described.base_digest() == learner->base_digest());
  learn::save_adapter(described.adapter_files(), described.layout(), described.weights(),
                      folder.file("by_description"), {{"run", "quickstart"}, {"round", "3"}});
  for (const auto& entry : std::filesystem::directory_iterator(folder.file("by_learner"))) {
    const std::string name = entry.path().filename();
    CHECK(test::read_file(entry.path()) == test::read_file(folder.file("by_description/" + name)));
  }
}

TEST_CASE("a folder that cannot be written is an error", "[learn][torch][save]") {
  const test::Folder folder;
  test::write_file(folder.file("taken"), "");
  const auto learner = learn::make_factory(test::spec("mlp", "lora", test::images()))->make();
  CHECK_THROWS_AS(learner->save_adapter(folder.file("taken/adapter"), {}), RunDirectoryError);
}

TEST_CASE("HF's ViT without a head is read by its shorter names", "[learn][torch][save]") {
  const test::Folder folder;
  const learn::LearnerSpec spec = test::spec("vit", "full", test::images());
  const auto original = saved(spec, folder.path());
  const auto file = data::Safetensors::open(folder.file("model.safetensors"));
  test::Values bare;
  for (const std::string& name : file.names()) {
    if (!name.starts_with("vit.")) continue;
    const Tensor tensor = file.f32(name);
    bare[name.substr(4)] = {tensor.shape, test::copy(tensor.f32())};
  }
  test::write_file(folder.file("model.safetensors"), test::safetensors(bare, "F32"));
  nlohmann::json config = json_file(folder.file("config.json"));
  config.erase("id2label");
  test::write_file(folder.file("config.json"), config.dump());
  const auto loaded =
      learn::make_factory(test::spec("vit", "full", test::images(), folder.path()))->make();
  const Block& block = loaded->layout().block("vit.encoder.layer.1.output.dense.weight");
  CHECK(test::copy(loaded->weights().subspan(block.offset, block.count)) ==
        test::copy(original->weights().subspan(block.offset, block.count)));
}
