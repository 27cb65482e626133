// The prefix against what it stands for: the keys and values of words that came before. In a model
// with one layer those are known by hand, so that a text must give the same logits after a prefix
// made from its first words as it gives as a whole.
#include <cmath>

#include "learn/torch/model_files.hpp"

using namespace fedctl;

namespace {

constexpr std::size_t kWords = 3;

std::vector<float> values(learn::Learner& learner, const std::string& name) {
  const Block& block = learner.layout().block(name);
  return test::copy(learner.weights().subspan(block.offset, block.count));
}

// The row's product with a matrix [out, in], or [in, out] if `turned`, in double.
std::vector<double> product(const std::vector<double>& row, const std::vector<float>& matrix,
                            bool turned) {
  const std::size_t in = row.size(), out = matrix.size() / in;
  std::vector<double> result(out);
  for (std::size_t o = 0; o < out; ++o) {
    for (std::size_t i = 0; i < in; ++i) {
      result[o] += row[i] * static_cast<double>(matrix[turned ? i * out + o : o * in + i]);
    }
  }
  return result;
}

// The whole text by `full`, its rest by `prefix` with these keys and values.
void require_same_rest(learn::Learner& whole, learn::Learner& behind,
                       const std::vector<float>& prefix, const std::vector<std::int64_t>& text) {
  const Block& block = behind.layout().block("prompt_embeddings");
  REQUIRE(block.count == prefix.size());
  std::ranges::copy(prefix, behind.weights().subspan(block.offset, block.count).begin());
  const std::vector<std::int64_t> rest(text.begin() + kWords, text.end());
  const auto batch = [](const std::vector<std::int64_t>& tokens) {
    return data::Batch{{"tokens", test::numbers(tokens)},
                       {"lengths", test::numbers({static_cast<std::int64_t>(tokens.size())})}};
  };
  const Tensor all = whole.logits(batch(text)), found = behind.logits(batch(rest));
  const auto expected = all.f32().subspan(kWords * static_cast<std::size_t>(all.shape[1]));
  REQUIRE(found.f32().size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE(found.f32()[i] == Approx(expected[i]).margin(2e-5));
  }
}

const std::vector<std::int64_t> kText = {3, 17, 5, 11, 2, 8, 8, 14};

}  // namespace

TEST_CASE("a prefix stands for earlier words: gpt2", "[learn][torch][prefix]") {
  learn::LearnerSpec full = test::spec("gpt2", "full", test::texts());
  learn::LearnerSpec prefix = test::spec("gpt2", "prefix", test::texts());
  for (auto* spec : {&full, &prefix}) {
    dynamic_cast<learn::Gpt2Options&>(*spec->model.options).depth = 1;
  }
  const auto whole = learn::make_factory(full)->make();
  const auto behind = learn::make_factory(prefix)->make();
  const std::vector<float> words = values(*whole, "transformer.wte.weight");
  const std::vector<float> places = values(*whole, "transformer.wpe.weight");
  const std::vector<float> qkv = values(*whole, "transformer.h.0.attn.c_attn.weight");
  std::vector<float> all;
  for (std::size_t p = 0; p < kWords; ++p) {
    std::vector<double> x(12);
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < 12; ++i) {
      x[i] = static_cast<double>(words[static_cast<std::size_t>(kText[p]) * 12 + i]) +
             static_cast<double>(places[p * 12 + i]);
      mean += x[i] / 12;
    }
    for (double& value : x) square += (value - mean) * (value - mean) / 12;
    for (double& value : x) value = (value - mean) / std::sqrt(square + 1e-5);
    const std::vector<double> mixed = product(x, qkv, true);  // fresh biases are zero
    for (std::size_t i = 12; i < 36; ++i) all.push_back(static_cast<float>(mixed[i]));
  }
  require_same_rest(*whole, *behind, all, kText);
}

TEST_CASE("a prefix stands for earlier words: llama", "[learn][torch][prefix]") {
  learn::LearnerSpec full = test::spec("llama", "full", test::texts());
  learn::LearnerSpec prefix = test::spec("llama", "prefix", test::texts());
  for (auto* spec : {&full, &prefix}) {
    dynamic_cast<learn::LlamaOptions&>(*spec->model.options).depth = 1;
  }
  const auto whole = learn::make_factory(full)->make();
  const auto behind = learn::make_factory(prefix)->make();
  const std::vector<float> words = values(*whole, "model.embed_tokens.weight");
  const std::vector<float> key = values(*whole, "model.layers.0.self_attn.k_proj.weight");
  const std::vector<float> value = values(*whole, "model.layers.0.self_attn.v_proj.weight");
  std::vector<float> all;
  for (std::size_t p = 0; p < kWords; ++p) {
    std::vector<double> x(16);
    double square = 0;
    for (std::size_t i = 0; i < 16; ++i) {
      x[i] = static_cast<double>(words[static_cast<std::size_t>(kText[p]) * 16 + i]);
      square += x[i] * x[i] / 16;
    }
    for (double& entry : x) entry /= std::sqrt(square + 1e-5);
    std::vector<double> k = product(x, key, false);
    for (std::size_t head = 0; head < 2; ++head) {  // two heads of width 4, rotated at p
      for (std::size_t i = 0; i < 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(1e4, -static_cast<double>(i) / 2);
        double& low = k[head * 4 + i];
        double& high = k[head * 4 + i + 2];
        const double turned = low * std::cos(angle) - high * std::sin(angle);
        high = high * std::cos(angle) + low * std::sin(angle);
        low = turned;
      }
    }
    for (const double entry : k) all.push_back(static_cast<float>(entry));
    for (const double entry : product(x, value, false)) all.push_back(static_cast<float>(entry));
  }
  require_same_rest(*whole, *behind, all, kText);
}

TEST_CASE("a prefix needs room in the model's context", "[learn][torch][prefix]") {
  learn::LearnerSpec spec = test::spec("gpt2", "prefix", test::texts());  // context 32
  const auto learner = learn::make_factory(spec)->make();
  CHECK_NOTHROW(learner->loss(test::text_batch(spec.data, 1, 29)));
  CHECK_THROWS_AS(learner->loss(test::text_batch(spec.data, 1, 30)), DataError);
  dynamic_cast<learn::PrefixOptions&>(*spec.adapter.options).tokens = 32;
  CHECK_THROWS_AS(learn::make_factory(spec), ConfigError);
}
