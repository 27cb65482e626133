// Tokens equal to those of Hugging Face's `tokenizers`, text by text.
#include <chrono>

#include "data/tokenizer.hpp"
#include "data/tokenizer_inputs.hpp"

using namespace fedctl;

namespace {

std::string joined(const std::vector<std::int64_t>& tokens) {
  std::string line;
  for (const std::int64_t token : tokens) {
    if (!line.empty()) line += ' ';
    line += std::to_string(token);
  }
  return line;
}

void check_golden(const std::string& tokenizer_path, const std::string& name,
                  std::size_t at_least) {
  const auto tokenizer = data::open_tokenizer(tokenizer_path);
  const std::vector<std::string> texts = test::golden_texts();
  const std::vector<std::string> expected = test::golden_lines(name + ".ids.gz");
  REQUIRE(expected.size() >= at_least);
  REQUIRE(expected.size() <= texts.size());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const std::string found = joined(tokenizer->encode(texts[i]));
    if (found == expected[i]) continue;
    if (++wrong > 5) continue;  // enough to see what is wrong
    UNSCOPED_INFO("text " << i << ": " << nlohmann::json(texts[i]).dump(-1, ' ', true) << "\n  is "
                          << found << "\n  expected " << expected[i]);
  }
  CHECK(wrong == 0);
}

bool is_absent(const std::string& path) {
  if (std::filesystem::exists(path)) return false;
  WARN("skipped: " << path << " is absent");
  return true;
}

}  // namespace

TEST_CASE("small tokenizers give the tokens of `tokenizers`", "[data][tokenizer]") {
  check_golden(test::golden("wordpiece.json"), "wordpiece", 500);
  check_golden(test::golden("byte_bpe.json"), "byte_bpe", 500);
  check_golden(test::golden("fallback_bpe.json"), "fallback_bpe", 500);
}

TEST_CASE("Metaspace splits at spaces or does not", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  nlohmann::json json = test::golden_json("fallback_bpe.json");
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Metaspace"},
                           {"replacement", "\xe2\x96\x81"},
                           {"prepend_scheme", "first"},
                           {"split", true}};
  check_golden(folder.write("split.json", json.dump()), "metaspace_split", 500);
  json["pre_tokenizer"]["split"] = false;
  check_golden(folder.write("whole.json", json.dump()), "metaspace_whole", 150);
}

TEST_CASE("bert-base-uncased gives the tokens of `tokenizers`", "[data][tokenizer]") {
  const std::string path = test::shared_data("tokenizers/bert-base-uncased");
  if (!is_absent(path)) check_golden(path, "bert-base-uncased", 2000);
}

TEST_CASE("gpt2 gives the tokens of `tokenizers`", "[data][tokenizer]") {
  const std::string path = test::shared_data("tokenizers/gpt2");
  if (!is_absent(path)) check_golden(path, "gpt2", 2000);
}

TEST_CASE("BPE on bytes brings every text back", "[data][tokenizer]") {
  std::vector<std::pair<std::string, std::string>> kinds{{test::golden("byte_bpe.json"), "?"},
                                                         {test::golden("fallback_bpe.json"), ""}};
  const std::string gpt2 = test::shared_data("tokenizers/gpt2");
  const std::string llama = test::shared_data("models/stories260K/tok512.bin");
  if (!is_absent(gpt2)) kinds.emplace_back(gpt2, "");
  if (!is_absent(llama)) kinds.emplace_back(llama, " ");
  const std::vector<std::string> texts = test::golden_texts();
  for (const auto& [path, front] : kinds) {
    INFO(path);
    const auto tokenizer = data::open_tokenizer(path);
    for (const std::string& text : texts) {
      std::string expected = (text.empty() ? "" : front) + text;
      if (front == "?") expected = (text.empty() || text.starts_with(' ') ? "" : " ") + text;
      // Here a space and the mark U+2581 are the same character.
      if (text.find("\xe2\x96\x81") != std::string::npos) continue;
      if (tokenizer->decode(tokenizer->encode(text)) != expected) {
        CHECK(tokenizer->decode(tokenizer->encode(text)) == expected);
      }
    }
  }
  CHECK(kinds.size() >= 2);
}

TEST_CASE("how fast tokenizers are", "[.bench]") {
  std::string text;
  for (const std::string& line : test::golden_texts()) text += line + '\n';
  std::string plain;
  std::ifstream in(test::shared_data("tiny-shakespeare/input.txt"));
  std::getline(in, plain, '\0');
  for (const std::string& path :
       {test::shared_data("tokenizers/bert-base-uncased"), test::shared_data("tokenizers/gpt2"),
        test::golden("fallback_bpe.json"), test::shared_data("models/stories260K/tok512.bin")}) {
    const auto tokenizer = data::open_tokenizer(path);
    for (const std::string& input : {text, plain}) {
      const auto start = std::chrono::steady_clock::now();
      const std::size_t count = tokenizer->encode(input).size();
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
      WARN(path << ": " << input.size() << " bytes, " << count << " tokens, "
                << static_cast<double>(input.size()) / spent.count() / 1e6 << " MB/s");
    }
  }
}
