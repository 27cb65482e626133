// The BERT family against the sentence embeddings of MiniLM-L6, against HF's formulas written out
// one number at a time, and in the forms its files come in.
#include "data/safetensors.hpp"
#include "learn/torch/reference.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;
using test::Row;
using test::Rows;

namespace {

nlohmann::json bert_config() {
  return {{"model_type", "bert"},
          {"hidden_size", 8},
          {"intermediate_size", 12},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"vocab_size", 11},
          {"max_position_embeddings", 16},
          {"type_vocab_size", 2},
          {"layer_norm_eps", 1e-5},
          {"hidden_act", "gelu"},
          {"id2label", {{"0", "cat"}, {"1", "dog"}, {"2", "owl"}}}};
}

test::Values bert_values() {
  std::vector<std::pair<std::string, Shape>> shapes;
  const auto with_bias = [&](const std::string& module, std::int64_t out, std::int64_t in) {
    shapes.push_back({module + ".weight", in == 0 ? Shape{out} : Shape{out, in}});
    shapes.push_back({module + ".bias", {out}});
  };
  shapes.push_back({"bert.embeddings.word_embeddings.weight", {11, 8}});
  shapes.push_back({"bert.embeddings.position_embeddings.weight", {16, 8}});
  shapes.push_back({"bert.embeddings.token_type_embeddings.weight", {2, 8}});
  with_bias("bert.embeddings.LayerNorm", 8, 0);
  for (const char* layer : {"bert.encoder.layer.0.", "bert.encoder.layer.1."}) {
    const std::string at = layer;
    for (const char* part : {"self.query", "self.key", "self.value", "output.dense"}) {
      with_bias(at + "attention." + part, 8, 8);
    }
    with_bias(at + "attention.output.LayerNorm", 8, 0);
    with_bias(at + "intermediate.dense", 12, 8);
    with_bias(at + "output.dense", 8, 12);
    with_bias(at + "output.LayerNorm", 8, 0);
  }
  with_bias("bert.pooler.dense", 8, 8);
  with_bias("classifier", 3, 8);
  return test::values_of(shapes);
}

Row reference_logits(const test::Values& values, const std::string& pooling,
                     const std::vector<std::int64_t>& tokens,
                     const std::vector<std::int64_t>& segments, const Rows& prompt) {
  const test::Reference r(values);
  Rows x = prompt;
  for (const std::int64_t token : tokens) {
    x.push_back(r.row("bert.embeddings.word_embeddings.weight", static_cast<std::size_t>(token)));
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int64_t type = i < prompt.size() ? 0 : segments[i - prompt.size()];
    test::add(x[i], r.row("bert.embeddings.position_embeddings.weight", i));
    test::add(x[i], r.row("bert.embeddings.token_type_embeddings.weight",
                          static_cast<std::size_t>(type)));
    x[i] = r.norm("bert.embeddings.LayerNorm", x[i], 1e-5);
  }
  for (const char* layer : {"bert.encoder.layer.0.", "bert.encoder.layer.1."}) {
    const std::string at = layer;
    Rows queries, keys, mixed_values;
    for (const Row& row : x) {
      queries.push_back(r.linear(at + "attention.self.query", row));
      keys.push_back(r.linear(at + "attention.self.key", row));
      mixed_values.push_back(r.linear(at + "attention.self.value", row));
    }
    const Rows mixed = test::attend(queries, keys, mixed_values, 2, false);
    for (std::size_t i = 0; i < x.size(); ++i) {
      test::add(x[i], r.linear(at + "attention.output.dense", mixed[i]));
      x[i] = r.norm(at + "attention.output.LayerNorm", x[i], 1e-5);
      Row wide = r.linear(at + "intermediate.dense", x[i]);
      for (double& value : wide) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
      test::add(x[i], r.linear(at + "output.dense", wide));
      x[i] = r.norm(at + "output.LayerNorm", x[i], 1e-5);
    }
  }
  Row pooled(8);
  if (pooling == "cls") {
    pooled = r.linear("bert.pooler.dense", x[0]);
    for (double& value : pooled) value = std::tanh(value);
  } else {
    for (std::size_t i = prompt.size(); i < x.size(); ++i) test::add(pooled, x[i]);
    for (double& value : pooled) value /= static_cast<double>(tokens.size());
  }
  return r.linear("classifier", pooled);
}

learn::LearnerSpec bert_spec(const std::string& adapter, const std::string& pooling,
                             const std::string& path) {
  learn::LearnerSpec spec = test::spec("bert", adapter, test::sentences(11), path);
  dynamic_cast<learn::BertOptions&>(*spec.model.options).pooling = pooling;
  return spec;
}

const std::vector<std::vector<std::int64_t>> kTexts = {{1, 7, 10, 0, 3, 3, 9}, {5}, {2, 2, 8, 6}};
const std::vector<std::vector<std::int64_t>> kSegments = {{0, 0, 0, 1, 1, 1, 1}, {1}, {0, 1, 0, 0}};

data::Batch packed(bool with_segments) {
  std::vector<std::int64_t> tokens, segments, lengths;
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    tokens.insert(tokens.end(), kTexts[i].begin(), kTexts[i].end());
    segments.insert(segments.end(), kSegments[i].begin(), kSegments[i].end());
    lengths.push_back(static_cast<std::int64_t>(kTexts[i].size()));
  }
  data::Batch batch = {{"tokens", test::numbers(tokens)}, {"lengths", test::numbers(lengths)}};
  if (with_segments) batch["segments"] = test::numbers(segments);
  return batch;
}

std::vector<float> logits_of(const std::string& path, const std::string& pooling = "cls") {
  const auto learner = learn::make_factory(bert_spec("head", pooling, path))->make();
  return test::copy(learner->logits(packed(true)).f32());
}

}  // namespace

TEST_CASE("a BERT computes what HF's formulas say", "[learn][torch][bert]") {
  const std::string pooling = GENERATE("cls", "mean");
  const std::string adapter = GENERATE("head", "prompt");
  const bool segments = GENERATE(false, true);
  INFO(pooling << ' ' << adapter << ' ' << segments);
  const test::Folder folder;
  const test::Values values = bert_values();
  test::write_model(folder.path(), bert_config(), values);
  const auto learner = learn::make_factory(bert_spec(adapter, pooling, folder.path()))->make();
  Rows prompt;
  if (adapter == "prompt") {
    prompt = test::prompt_of(*learner);
    REQUIRE(prompt.size() == 3);
  }
  const Tensor found = learner->logits(packed(segments));
  REQUIRE(found.shape == Shape{3, 3});
  for (std::size_t text = 0; text < kTexts.size(); ++text) {
    const std::vector<std::int64_t> none(kTexts[text].size());
    const Row expected =
        reference_logits(values, pooling, kTexts[text], segments ? kSegments[text] : none, prompt);
    for (std::size_t i = 0; i < 3; ++i) {
      CAPTURE(text, i);
      CHECK(static_cast<double>(found.f32()[3 * text + i]) == Approx(expected[i]).margin(2e-5));
    }
  }
}

TEST_CASE("MiniLM-L6 embeds sentences as its authors' library does", "[learn][torch][bert][data]") {
  const auto model = test::shared_data("models/minilm-l6");
  if (!model) return;
  const auto golden = data::Safetensors::open(*model + "/golden.safetensors");
  const Tensor ids = golden.i64("input_ids"), mask = golden.i64("attention_mask");
  std::vector<std::int64_t> tokens, lengths(8);
  for (std::size_t i = 0; i < ids.i64().size(); ++i) {
    if (mask.i64()[i] == 0) continue;
    tokens.push_back(ids.i64()[i]);
    ++lengths[i / 158];
  }
  // With the identity as classifier the logits are the embedding.
  data::DatasetInfo info = test::sentences(30522);
  info.classes.clear();
  for (int i = 0; i < 384; ++i) info.classes.push_back(std::to_string(i));
  learn::LearnerSpec spec = test::spec("bert", "head", info, *model);
  dynamic_cast<learn::BertOptions&>(*spec.model.options).pooling = "mean";
  const auto learner = learn::make_factory(spec)->make();
  REQUIRE(learner->weights().size() == 384 * 384 + 384);
  std::ranges::fill(learner->weights(), 0.0F);
  const std::size_t offset = learner->layout().block("classifier.weight").offset;
  for (std::size_t i = 0; i < 384; ++i) learner->weights()[offset + i * 385] = 1;
  const Tensor found =
      learner->logits({{"tokens", test::numbers(tokens)}, {"lengths", test::numbers(lengths)}});
  const Tensor expected = golden.f32("pooled");
  REQUIRE(found.shape == expected.shape);
  double worst = 0;
  for (std::size_t i = 0; i < found.f32().size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(found.f32()[i] - expected.f32()[i])));
  }
  CHECK(worst < 1e-4);
}

TEST_CASE("BERT's files are read under all their names", "[learn][torch][bert]") {
  const test::Folder folder;
  const test::Values values = bert_values();
  test::write_model(folder.file("long"), bert_config(), values);
  test::Values bare, old;
  for (const auto& [name, tensor] : values) {
    bare[name.starts_with("bert.") ? name.substr(5) : name] = tensor;
    std::string older = name;  // as the first BERT files, turned from TensorFlow's, have it
    for (const auto& [now, then] : {std::pair("LayerNorm.weight", "LayerNorm.gamma"),
                                    std::pair("LayerNorm.bias", "LayerNorm.beta")}) {
      if (!name.ends_with(now)) continue;
      older.replace(older.size() - std::strlen(now), std::string::npos, then);
    }
    old[older] = tensor;
  }
  test::write_model(folder.file("bare"), bert_config(), bare);
  test::write_model(folder.file("old"), bert_config(), old);
  const std::vector<float> expected = logits_of(folder.file("long"));
  CHECK(logits_of(folder.file("bare")) == expected);
  CHECK(logits_of(folder.file("old")) == expected);
}

TEST_CASE("a BERT without pooler serves the mean alone", "[learn][torch][bert]") {
  const test::Folder folder;
  test::Values values = bert_values();
  test::write_model(folder.file("all"), bert_config(), values);
  values.erase("bert.pooler.dense.weight");
  values.erase("bert.pooler.dense.bias");
  test::write_model(folder.file("few"), bert_config(), values);
  CHECK_THROWS_AS(logits_of(folder.file("few")), DataError);
  CHECK_THROWS_WITH(logits_of(folder.file("few")), Contains("has no pooler"));
  CHECK(logits_of(folder.file("few"), "mean") == logits_of(folder.file("all"), "mean"));
}

TEST_CASE("a saved BERT with the mean is taken again", "[learn][torch][bert]") {
  const test::Folder folder;
  test::write_model(folder.file("base"), bert_config(), bert_values());
  const auto learner = learn::make_factory(bert_spec("full", "mean", folder.file("base")))->make();
  test::disturb(*learner);
  learner->save_adapter(folder.file("next"), {});
  CHECK(logits_of(folder.file("next"), "mean") == test::copy(learner->logits(packed(true)).f32()));
  CHECK_FALSE(data::Safetensors::open(folder.file("next/model.safetensors"))
                  .contains("bert.pooler.dense.weight"));
}

TEST_CASE("BERTs that are not implemented or do not fit are refused", "[learn][torch][bert]") {
  const test::Folder folder;
  const auto require_error = [&](const char* key, const nlohmann::json& value,
                                 const std::string& reason) {
    nlohmann::json config = bert_config();
    config[key] = value;
    test::write_model(folder.path(), config, bert_values());
    CHECK_THROWS_AS(logits_of(folder.path()), DataError);
    CHECK_THROWS_WITH(logits_of(folder.path()), Contains(reason));
  };
  require_error("position_embedding_type", "relative_key", "position_embedding_type");
  require_error("hidden_act", "relu", "hidden_act");
  require_error("is_decoder", true, "is_decoder");
  require_error("num_attention_heads", 3, "heads is 3");
  require_error("vocab_size", 12, "expected [12,8]");
  require_error("hidden_size", 0, "hidden_size is 0");

  test::Values values = bert_values();
  values["bert.embeddings.token_type_embeddings.weight"] = {{1, 8}, std::vector<float>(8)};
  nlohmann::json config = bert_config();
  config["type_vocab_size"] = 1;
  test::write_model(folder.path(), config, values);
  CHECK_THROWS_WITH(logits_of(folder.path()), Contains("one segment type"));

  learn::LearnerSpec spec = bert_spec("lora", "cls", folder.path());
  spec.data.vocabulary = 12;
  CHECK_THROWS_AS(learn::make_factory(spec), DataError);
  CHECK_THROWS_WITH(learn::make_factory(spec), Contains("has 12 tokens"));
  CHECK_THROWS_AS(learn::make_factory(test::spec("bert", "lora", test::texts())), ConfigError);
  CHECK_THROWS_AS(learn::make_factory(test::spec("bert", "lora", test::images())), ConfigError);
}

TEST_CASE("text batches that do not fit a BERT are refused", "[learn][torch][bert][refusal]") {
  const auto learner = learn::make_factory(test::spec("bert", "prompt", test::sentences()))->make();
  data::Batch batch = test::text_batch(test::sentences(), {3, 5});
  CHECK_NOTHROW(learner->loss(batch));
  batch["labels"] = test::numbers({0, 3});
  CHECK_THROWS_AS(learner->loss(batch), DataError);
  batch["labels"] = test::numbers(std::vector<std::int64_t>(8));
  CHECK_THROWS_AS(learner->loss(batch), DataError);
  // The context has 32 positions, of which the prompt takes three.
  CHECK_NOTHROW(learner->loss(test::text_batch(test::sentences(), {29})));
  CHECK_THROWS_AS(learner->loss(test::text_batch(test::sentences(), {30})), DataError);
}
