// The GPT-2 family against HF's formulas written out one number at a time, and its matrices, which
// are stored input first.
#include "data/safetensors.hpp"
#include "learn/torch/reference.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;
using test::Row;
using test::Rows;

namespace {

nlohmann::json gpt2_config() {
  return {{"model_type", "gpt2"},
          {"n_embd", 8},
          {"n_inner", nullptr},
          {"n_layer", 2},
          {"n_head", 2},
          {"vocab_size", 11},
          {"n_positions", 16},
          {"n_ctx", 16},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", 1e-5},
          {"scale_attn_weights", true}};
}

test::Values gpt2_values() {
  std::vector<std::pair<std::string, Shape>> shapes;
  const auto with_bias = [&](const std::string& module, std::int64_t in, std::int64_t out) {
    shapes.push_back({module + ".weight", in == 0 ? Shape{out} : Shape{in, out}});
    shapes.push_back({module + ".bias", {out}});
  };
  shapes.push_back({"transformer.wte.weight", {11, 8}});
  shapes.push_back({"transformer.wpe.weight", {16, 8}});
  for (const char* layer : {"transformer.h.0.", "transformer.h.1."}) {
    const std::string at = layer;
    with_bias(at + "ln_1", 0, 8);
    with_bias(at + "attn.c_attn", 8, 24);
    with_bias(at + "attn.c_proj", 8, 8);
    with_bias(at + "ln_2", 0, 8);
    with_bias(at + "mlp.c_fc", 8, 32);
    with_bias(at + "mlp.c_proj", 32, 8);
  }
  with_bias("transformer.ln_f", 0, 8);
  return test::values_of(shapes);
}

// Logits at each of the tokens.
Rows reference_logits(const test::Values& values, const std::vector<std::int64_t>& tokens,
                      const Rows& prompt) {
  const test::Reference r(values);
  Rows x = prompt;
  for (const std::int64_t token : tokens) {
    x.push_back(r.row("transformer.wte.weight", static_cast<std::size_t>(token)));
  }
  for (std::size_t i = 0; i < x.size(); ++i) test::add(x[i], r.row("transformer.wpe.weight", i));
  for (const char* layer : {"transformer.h.0.", "transformer.h.1."}) {
    const std::string at = layer;
    Rows queries, keys, mixed_values;
    for (const Row& row : x) {
      const Row y = r.conv1d(at + "attn.c_attn", r.norm(at + "ln_1", row, 1e-5));
      queries.emplace_back(y.begin(), y.begin() + 8);
      keys.emplace_back(y.begin() + 8, y.begin() + 16);
      mixed_values.emplace_back(y.begin() + 16, y.end());
    }
    const Rows mixed = test::attend(queries, keys, mixed_values, 2, true);
    for (std::size_t i = 0; i < x.size(); ++i) {
      test::add(x[i], r.conv1d(at + "attn.c_proj", mixed[i]));
      Row wide = r.conv1d(at + "mlp.c_fc", r.norm(at + "ln_2", x[i], 1e-5));
      for (double& value : wide) {
        const double inner = std::sqrt(2 / M_PI) * (value + 0.044715 * value * value * value);
        value *= 0.5 * (1 + std::tanh(inner));
      }
      test::add(x[i], r.conv1d(at + "mlp.c_proj", wide));
    }
  }
  Rows logits;
  for (std::size_t i = prompt.size(); i < x.size(); ++i) {
    const Row last = r.norm("transformer.ln_f", x[i], 1e-5);
    logits.emplace_back();
    for (std::size_t token = 0; token < 11; ++token) {
      const Row word = r.row("transformer.wte.weight", token);
      logits.back().push_back(std::inner_product(word.begin(), word.end(), last.begin(), 0.0));
    }
  }
  return logits;
}

const std::vector<std::vector<std::int64_t>> kTexts = {{1, 7, 10, 0, 3, 3, 9}, {5}, {2, 2, 8, 6}};

data::Batch packed() {
  std::vector<std::int64_t> tokens, lengths;
  for (const auto& text : kTexts) {
    tokens.insert(tokens.end(), text.begin(), text.end());
    lengths.push_back(static_cast<std::int64_t>(text.size()));
  }
  return {{"tokens", test::numbers(tokens)}, {"lengths", test::numbers(lengths)}};
}

std::vector<float> logits_of(const std::string& path) {
  const auto learner =
      learn::make_factory(test::spec("gpt2", "head", test::texts(11), path))->make();
  return test::copy(learner->logits(packed()).f32());
}

void require_reference(learn::Learner& learner, const test::Values& values, const Rows& prompt) {
  const Tensor found = learner.logits(packed());
  REQUIRE(found.shape == Shape{12, 11});
  std::size_t at = 0;
  for (const auto& text : kTexts) {
    for (const Row& row : reference_logits(values, text, prompt)) {
      for (const double expected : row) {
        CAPTURE(at);
        REQUIRE(static_cast<double>(found.f32()[at++]) == Approx(expected).margin(5e-5));
      }
    }
  }
}

}  // namespace

TEST_CASE("a GPT-2 computes what HF's formulas say", "[learn][torch][gpt2]") {
  const std::string adapter = GENERATE("head", "prompt", "full");
  const test::Folder folder;
  const test::Values values = gpt2_values();
  test::write_model(folder.path(), gpt2_config(), values);
  const auto learner =
      learn::make_factory(test::spec("gpt2", adapter, test::texts(11), folder.path()))->make();
  require_reference(*learner, values, adapter == "prompt" ? test::prompt_of(*learner) : Rows{});
}

// PEFT adds (B A)^T to a matrix that is stored input first.
TEST_CASE("LoRA on a GPT-2 is a change of its matrices", "[learn][torch][gpt2]") {
  const test::Folder folder;
  test::Values values = gpt2_values();
  test::write_model(folder.path(), gpt2_config(), values);
  learn::LearnerSpec spec = test::spec("gpt2", "lora", test::texts(11), folder.path());
  auto& options = dynamic_cast<learn::LoraOptions&>(*spec.adapter.options);
  options.targets = {"qkv", "output", "fc1", "fc2"};
  options.train_head = false;
  const auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner, 0.1);
  for (const Block& block : learner->layout().blocks()) {
    if (!block.name.ends_with(".lora_A.weight")) continue;
    const std::string module = block.name.substr(0, block.name.rfind(".lora_A"));
    auto& [shape, flat] = values.at(module + ".weight");
    const auto in = static_cast<std::size_t>(shape[0]), out = static_cast<std::size_t>(shape[1]);
    const std::size_t a = block.offset;
    const std::size_t b = learner->layout().block(module + ".lora_B.weight").offset;
    for (std::size_t i = 0; i < in; ++i) {
      for (std::size_t o = 0; o < out; ++o) {
        for (std::size_t k = 0; k < 3; ++k) {  // rank 3, scale 6 / 3
          flat[i * out + o] +=
              2 * learner->weights()[b + o * 3 + k] * learner->weights()[a + k * in + i];
        }
      }
    }
  }
  REQUIRE(learner->layout().blocks().size() == 16);
  require_reference(*learner, values, {});

  learner->save_merged(folder.file("merged"), {}, data::Storage::f32);
  const auto merged =
      learn::make_factory(test::spec("gpt2", "head", test::texts(11), folder.file("merged")))
          ->make();
  require_reference(*merged, values, {});
}

TEST_CASE("a GPT-2 is saved as HF stores it", "[learn][torch][gpt2]") {
  const test::Folder folder;
  const test::Values values = gpt2_values();
  test::write_model(folder.file("base"), gpt2_config(), values);
  const auto learner =
      learn::make_factory(test::spec("gpt2", "full", test::texts(11), folder.file("base")))->make();
  learner->save_adapter(folder.file("next"), {});
  const auto file = data::Safetensors::open(folder.file("next/model.safetensors"));
  CHECK(file.names().size() == values.size());
  for (const auto& [name, tensor] : values) {
    CAPTURE(name);
    CHECK(file.shape(name) == tensor.first);
    CHECK(test::copy(file.f32(name).f32()) == tensor.second);
  }
  const auto config = nlohmann::json::parse(test::read_file(folder.file("next/config.json")));
  CHECK(config["n_inner"] == 32);
  CHECK(config["tie_word_embeddings"] == true);
}

TEST_CASE("GPT-2's files are read under their shorter names", "[learn][torch][gpt2]") {
  const test::Folder folder;
  const test::Values values = gpt2_values();
  test::write_model(folder.file("long"), gpt2_config(), values);
  test::Values bare;
  for (const auto& [name, tensor] : values) bare[name.substr(12)] = tensor;
  test::write_model(folder.file("bare"), gpt2_config(), bare);
  CHECK(logits_of(folder.file("bare")) == logits_of(folder.file("long")));
}

TEST_CASE("GPT-2s that are not implemented or do not fit are refused", "[learn][torch][gpt2]") {
  const test::Folder folder;
  const auto require_error = [&](const char* key, const nlohmann::json& value,
                                 const std::string& reason) {
    nlohmann::json config = gpt2_config();
    config[key] = value;
    test::write_model(folder.path(), config, gpt2_values());
    CHECK_THROWS_AS(logits_of(folder.path()), DataError);
    CHECK_THROWS_WITH(logits_of(folder.path()), Contains(reason));
  };
  require_error("activation_function", "relu", "activation_function");
  require_error("scale_attn_weights", false, "scale_attn_weights");
  require_error("scale_attn_by_inverse_layer_idx", true, "scale_attn_by_inverse_layer_idx");
  require_error("n_head", 3, "heads is 3");
  require_error("n_inner", 16, "expected [8,16]");

  learn::LearnerSpec spec = test::spec("gpt2", "lora", test::texts());
  dynamic_cast<learn::LoraOptions&>(*spec.adapter.options).targets = {"query", "value"};
  CHECK_THROWS_AS(learn::make_factory(spec), ConfigError);
  CHECK_THROWS_WITH(learn::make_factory(spec), Contains("one matrix for query, key and value"));
  CHECK_THROWS_AS(learn::make_factory(test::spec("gpt2", "lora", test::sentences())), ConfigError);
}
