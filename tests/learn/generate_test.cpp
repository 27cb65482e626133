#include "learn/generate.hpp"

#include <catch2/catch.hpp>

#include "learn/points.hpp"

using namespace fedctl;

namespace {

using Tokens = std::vector<std::int64_t>;
constexpr std::int64_t kVocabulary = 7, kEnd = 6;

// Says (3 * token + sum of all before it) mod 7 behind a token, and sees each text alone.
class Parrot final : public learn::Learner {
 public:
  explicit Parrot(std::int64_t context) : context_(context) {}
  static std::int64_t next(std::span<const std::int64_t> text) {
    std::int64_t sum = 3 * text.back();
    for (const std::int64_t token : text) sum += token;
    return sum % kVocabulary;
  }
  std::int64_t context() const override { return context_; }
  Tensor logits(const data::Batch& batch) override {
    const auto tokens = batch.at("tokens").i64();
    Tensor out = Tensor::zeros(DType::f32, {static_cast<std::int64_t>(tokens.size()), kVocabulary});
    std::size_t first = 0;
    for (const std::int64_t length : batch.at("lengths").i64()) {
      CHECK(length <= context_);
      const auto text = tokens.subspan(first, static_cast<std::size_t>(length));
      for (std::size_t i = 0; i < text.size(); ++i) {
        const auto said = static_cast<std::size_t>(next(text.first(i + 1)));
        out.f32()[(first + i) * kVocabulary + said] = 1;
      }
      first += text.size();
    }
    ++passes;
    return out;
  }
  int passes = 0;

  const Layout& layout() const override { return layout_; }
  std::span<float> weights() override { return {}; }
  std::span<float> gradient() override { return {}; }
  double loss(const data::Batch&) override { return 0; }
  double loss_and_gradient(const data::Batch&) override { return 0; }
  learn::Scores evaluate(const data::Batch&) override { return {}; }
  learn::AdapterFiles adapter_files() override { return {}; }
  void load_adapter(const std::string&) override {}
  void save_merged(const std::string&, const std::map<std::string, std::string>&,
                   data::Storage) override {}
  std::string base_digest() const override { return ""; }
  std::size_t base_parameters() const override { return 0; }

 private:
  std::int64_t context_;
  Layout layout_;
};

Tokens by_hand(Tokens text, std::int64_t longest, std::int64_t context) {
  Tokens said;
  while (static_cast<std::int64_t>(said.size()) < longest &&
         static_cast<std::int64_t>(text.size()) < context) {
    const std::int64_t token = Parrot::next(text);
    if (token == kEnd) break;
    said.push_back(token);
    text.push_back(token);
  }
  return said;
}

}  // namespace

TEST_CASE("generation goes on until the end token, the limit or the context", "[learn][generate]") {
  const std::int64_t context = GENERATE(5, 9, 1000), longest = GENERATE(0, 1, 6, 40);
  Parrot parrot(context);
  std::vector<Tokens> prompts;
  for (std::int64_t a = 0; a < kVocabulary; ++a) {
    for (std::int64_t b = 0; b < kVocabulary; ++b) prompts.push_back({a, b, (a * b) % 5});
  }
  prompts.push_back({1, 2, 3, 4, 5});  // as long as the shortest context
  const auto found = learn::generate(parrot, prompts, kEnd, longest);
  REQUIRE(found.size() == prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    CHECK(found[i] == by_hand(prompts[i], longest, context));
  }
}

TEST_CASE("many long texts are written in several passes", "[learn][generate]") {
  Parrot parrot(100'000);
  const std::vector<Tokens> prompts(9, Tokens(600, 1));
  const auto found = learn::generate(parrot, prompts, -1, 2);
  for (const Tokens& said : found) CHECK(said == found.front());
  CHECK(found.front().size() == 2);
  CHECK(parrot.passes == 6);  // three texts a pass, three passes a token
}
