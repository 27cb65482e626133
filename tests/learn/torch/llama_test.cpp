// The Llama family against the text its model's author published, against HF's formulas written out
// one number at a time, and in all the forms its files come in.
#include <cmath>

#include "data/tokenizer.hpp"
#include "learn/torch/model_files.hpp"

using namespace fedctl;

namespace {

data::Batch text_of(const std::vector<std::int64_t>& tokens) {
  return {{"tokens", test::numbers(tokens)},
          {"lengths", test::numbers({static_cast<std::int64_t>(tokens.size())})}};
}

std::vector<float> logits_of(const std::string& path, const std::vector<std::int64_t>& tokens) {
  const auto learner =
      learn::make_factory(test::spec("llama", "lora", test::texts(11), path))->make();
  const Tensor logits = learner->logits(text_of(tokens));
  REQUIRE(logits.shape == Shape{static_cast<std::int64_t>(tokens.size()), 11});
  return test::copy(logits.f32());
}

using Row = std::vector<double>;

// Reference: HF's LlamaForCausalLM of model_files.hpp, one token after the other, in double.
class Reference {
 public:
  explicit Reference(const test::Values& values) : values_(values) {}

  std::vector<Row> logits(const std::vector<std::int64_t>& tokens) const {
    std::vector<Row> x;
    for (const std::int64_t token : tokens) x.push_back(row("model.embed_tokens.weight", token, 8));
    for (int layer = 0; layer < 2; ++layer) {
      const std::string at = "model.layers." + std::to_string(layer) + '.';
      attend(at, x);
      for (Row& r : x) {
        const Row w = norm(at + "post_attention_layernorm.weight", r);
        Row gate = times(at + "mlp.gate_proj.weight", w);
        const Row up = times(at + "mlp.up_proj.weight", w);
        for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
        add(r, times(at + "mlp.down_proj.weight", gate));
      }
    }
    std::vector<Row> out;
    for (const Row& r : x) out.push_back(times("lm_head.weight", norm("model.norm.weight", r)));
    return out;
  }

 private:
  Row row(const std::string& name, std::int64_t index, std::int64_t width) const {
    const auto from = values_.at(name).second.begin() + index * width;
    return {from, from + width};
  }
  Row times(const std::string& name, const Row& x) const {
    const auto& [shape, flat] = values_.at(name);
    Row y(static_cast<std::size_t>(shape[0]));
    for (std::size_t i = 0; i < flat.size(); ++i) {
      y[i / x.size()] += static_cast<double>(flat[i]) * x[i % x.size()];
    }
    return y;
  }
  Row norm(const std::string& name, const Row& x) const {
    double mean = 0;
    for (const double value : x) mean += value * value / static_cast<double>(x.size());
    Row y = row(name, 0, static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) y[i] *= x[i] / std::sqrt(mean + 1e-5);
    return y;
  }
  static void add(Row& x, const Row& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
  // HF's rotate_half on heads of width 4: (x0, x2) and (x1, x3) are the planes.
  static Row rotated(const Row& head, std::size_t position) {
    Row out(4);
    for (std::size_t plane = 0; plane < 2; ++plane) {
      const double angle =
          static_cast<double>(position) * std::pow(10000.0, -static_cast<double>(plane) / 2);
      out[plane] = head[plane] * std::cos(angle) - head[plane + 2] * std::sin(angle);
      out[plane + 2] = head[plane + 2] * std::cos(angle) + head[plane] * std::sin(angle);
    }
    return out;
  }
  void attend(const std::string& at, std::vector<Row>& x) const {
    std::vector<Row> queries, keys, values;
    for (const Row& r : x) {
      const Row y = norm(at + "input_layernorm.weight", r);
      queries.push_back(times(at + "self_attn.q_proj.weight", y));
      keys.push_back(times(at + "self_attn.k_proj.weight", y));
      values.push_back(times(at + "self_attn.v_proj.weight", y));
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      Row mixed(8);
      for (std::size_t head = 0; head < 2; ++head) {
        const auto begin = queries[i].begin() + static_cast<std::ptrdiff_t>(4 * head);
        const Row q = rotated(Row(begin, begin + 4), i);
        Row weights;
        double sum = 0;
        for (std::size_t j = 0; j <= i; ++j) {
          const Row k = rotated(keys[j], j);
          double dot = 0;
          for (std::size_t d = 0; d < 4; ++d) dot += q[d] * k[d];
          weights.push_back(std::exp(dot / 2));
          sum += weights.back();
        }
        for (std::size_t j = 0; j <= i; ++j) {
          for (std::size_t d = 0; d < 4; ++d)
            mixed[4 * head + d] += weights[j] / sum * values[j][d];
        }
      }
      add(x[i], times(at + "self_attn.o_proj.weight", mixed));
    }
  }

  const test::Values& values_;
};

}  // namespace

TEST_CASE("stories260K tells the story its author published", "[learn][torch][data]") {
  const auto model = test::shared_data("models/stories260K/stories260K.bin");
  const auto words = test::shared_data("models/stories260K/tok512.bin");
  if (!model || !words) return;
  const auto tokenizer = data::open_llama2c_tokenizer(*words, 512);
  const auto learner =
      learn::make_factory(test::spec("llama", "lora", test::texts(512), *model))->make();
  std::vector<std::int64_t> story = {1};
  while (story.size() < 80) {
    const Tensor logits = learner->logits(text_of(story));
    const auto last = logits.f32().last(512);
    story.push_back(std::ranges::max_element(last) - last.begin());
  }
  std::string text = tokenizer->decode(std::span(story).subspan(1));
  text.erase(0, text.find_first_not_of(' '));
  CHECK_THAT(text, Catch::Matchers::StartsWith(
                       "Once upon a time, there was a little girl named Lily. She loved to play "
                       "outside in the park. One day, she saw a big, red ball."));
}

TEST_CASE("stories260K learns with every adapter", "[learn][torch][data]") {
  const auto model = test::shared_data("models/stories260K/stories260K.bin");
  if (!model) return;
  const std::string adapter = GENERATE("lora", "prompt", "head", "full");
  INFO(adapter);
  const learn::LearnerSpec spec = test::spec("llama", adapter, test::texts(512), *model);
  const auto learner = learn::make_factory(spec)->make();
  data::Batch batch = test::text_batch(spec.data, 4, 32);
  for (auto& token : batch["tokens"].i64()) token = 300 + token % 5;
  for (auto& label : batch["labels"].i64()) label = label < 0 ? label : 300 + label % 5;
  const double before = learner->loss(batch);
  for (int step = 0; step < 30; ++step) {
    learner->loss_and_gradient(batch);
    const std::span<float> weights = learner->weights();
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= 0.05F * learner->gradient()[i];
  }
  CHECK(learner->loss(batch) < 0.9 * before);
}

TEST_CASE("a Llama computes what HF's formulas say", "[learn][torch][llama]") {
  const test::Folder folder;
  const test::Values values = test::llama_values();
  test::write_model(folder.path(), test::llama_config(), values);
  const std::vector<std::int64_t> tokens = {1, 7, 10, 0, 3, 3, 9};
  const std::vector<float> found = logits_of(folder.path(), tokens);
  const std::vector<Row> expected = Reference(values).logits(tokens);
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    REQUIRE(static_cast<double>(found[i]) == Approx(expected[i / 11][i % 11]).margin(2e-5));
  }
}

TEST_CASE("a llama2.c file and an HF folder of one model agree", "[learn][torch][llama]") {
  const test::Folder folder;
  const test::Values values = test::llama_values();
  test::write_model(folder.file("hf"), test::llama_config(), values);
  test::write_file(folder.file("model.bin"), test::llama2c_bytes(values));
  const std::vector<std::int64_t> tokens = {1, 7, 10, 0, 3, 3, 9};
  CHECK(logits_of(folder.file("hf"), tokens) == logits_of(folder.file("model.bin"), tokens));
}

TEST_CASE("half-precision folders are widened exactly", "[learn][torch][llama]") {
  const std::string dtype = GENERATE("F16", "BF16");
  const test::Folder folder;
  test::Values values = test::llama_values();
  for (auto& [name, tensor] : values) {
    for (float& value : tensor.second) {
      // Exact in both: five bits of mantissa, exponents from 2^-6 up.
      value = std::abs(value) < 0x1p-6F
                  ? 0.25F
                  : std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0xfffc0000U);
    }
  }
  test::write_model(folder.file("wide"), test::llama_config(), values, "F32");
  test::write_model(folder.file("narrow"), test::llama_config(), values, dtype);
  const std::vector<std::int64_t> tokens = {1, 7, 10, 0};
  CHECK(logits_of(folder.file("narrow"), tokens) == logits_of(folder.file("wide"), tokens));
}

TEST_CASE("HF's other spellings of a Llama are read", "[learn][torch][llama]") {
  const test::Folder folder;
  const std::vector<std::int64_t> tokens = {1, 7, 10, 0, 5};
  test::Values values = test::llama_values();
  test::write_model(folder.file("plain"), test::llama_config(), values);
  const std::vector<float> expected = logits_of(folder.file("plain"), tokens);

  nlohmann::json config = test::llama_config();  // as transformers 5 writes it
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_theta", 10000.0}, {"rope_type", "default"}};
  config["head_dim"] = 4;
  config["rope_scaling"] = nullptr;
  test::write_model(folder.file("newer"), config, values);
  CHECK(logits_of(folder.file("newer"), tokens) == expected);

  test::Values bare;  // LlamaModel without its output layer: tied, and no "model." in front
  for (const auto& [name, tensor] : values) {
    if (name != "lm_head.weight") bare[name.substr(6)] = tensor;
  }
  config["tie_word_embeddings"] = true;
  test::write_model(folder.file("bare"), config, bare);
  values["lm_head.weight"] = values["model.embed_tokens.weight"];
  test::write_model(folder.file("untied"), test::llama_config(), values);
  CHECK(logits_of(folder.file("bare"), tokens) == logits_of(folder.file("untied"), tokens));
}

TEST_CASE("a long context costs nothing until it is used", "[learn][torch][llama]") {
  const test::Folder folder;
  nlohmann::json config = test::llama_config();
  config["max_position_embeddings"] = 1 << 20;
  test::write_model(folder.path(), config, test::llama_values());
  CHECK(logits_of(folder.path(), {1, 2, 3}).size() == 33);
  CHECK(logits_of(folder.path(), std::vector<std::int64_t>(300, 4)).size() == 3300);
}

TEST_CASE("longer texts later do not change shorter ones", "[learn][torch][llama]") {
  const learn::LearnerSpec spec = [] {
    learn::LearnerSpec s = test::spec("llama", "lora", test::texts());
    dynamic_cast<learn::LlamaOptions&>(*s.model.options).context = 400;
    return s;
  }();
  const auto learner = learn::make_factory(spec)->make();
  const data::Batch small = test::text_batch(spec.data, 2, 9);
  const double before = learner->loss(small);
  learner->evaluate(test::text_batch(spec.data, 1, 390));
  CHECK(learner->loss(small) == before);
  learner->loss_and_gradient(small);  // tables made while evaluating serve training too
}
