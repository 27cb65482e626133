#include "data/tokenizer.hpp"

#include <filesystem>

#include "base/assert.hpp"
#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/detail/tokenizer_kinds.hpp"

namespace fedctl::data {
namespace {

constexpr const char* kHint =
    "a tokenizer is tokenizer.json, vocab.txt, vocab.json with merges.txt, or a llama2.c .bin";

std::string file_of(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  const std::string found =
      find_in(path, {"tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.bin"});
  if (found.empty()) throw DataError(path + ": no tokenizer in this folder", kHint);
  return found;
}

}  // namespace

Encoded Tokenizer::frame(std::string_view first, std::optional<std::string_view> second,
                         std::size_t longest) const {
  const std::size_t special = begin() >= 0 ? 1 : 0;
  FEDCTL_ASSERT(longest > special);
  std::vector<std::int64_t> a = encode(first);
  std::vector<std::int64_t> b = second ? encode(*second) : std::vector<std::int64_t>();
  cut_longer(a, b, longest - special);
  Encoded framed;
  if (special > 0) framed.tokens.push_back(begin());
  framed.tokens.insert(framed.tokens.end(), a.begin(), a.end());
  framed.segments.assign(framed.tokens.size(), 0);
  framed.tokens.insert(framed.tokens.end(), b.begin(), b.end());
  framed.segments.resize(framed.tokens.size(), 1);
  return framed;
}

void cut_longer(std::vector<std::int64_t>& first, std::vector<std::int64_t>& second,
                std::size_t longest) {
  while (first.size() + second.size() > longest) {
    // One token at a time from whichever is longer leaves them as alike as can be.
    if (first.size() > second.size()) {
      first.pop_back();
    } else {
      second.pop_back();
    }
  }
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
  const std::filesystem::path file = file_of(path);
  const std::string name = file.filename().string();
  if (name == "vocab.json" || name == "merges.txt") {
    return open_vocab_and_merges((file.parent_path() / "vocab.json").string(),
                                 (file.parent_path() / "merges.txt").string());
  }
  if (file.extension() == ".json") return open_tokenizer_json(file.string());
  if (file.extension() == ".txt") return open_vocab_txt(file.string());
  if (file.extension() == ".bin") return open_llama2c_tokenizer(file.string());
  throw DataError(path + ": not the name of a tokenizer file", kHint);
}

}  // namespace fedctl::data
