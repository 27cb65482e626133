// BPE on characters with bytes to fall back on, as Llama 2 has it: a space is the mark U+2581, a
// character that is no token is spelt in its UTF-8 bytes <0x00> to <0xFF>, and neighbours merge.
// Deviation from `tokenizers`: special tokens in a text are text, and what is not UTF-8 becomes
// U+FFFD.
#include <array>
#include <unordered_map>

#include "base/errors.hpp"
#include "data/detail/tokenizer_kinds.hpp"

namespace fedctl::data {
namespace {

using Front = FallbackBpeParts::Front;

constexpr char32_t kMark = 0x2581;

std::string byte_token(std::size_t byte) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + '>';
}

class FallbackBpe final : public Tokenizer {
 public:
  FallbackBpe(FallbackBpeParts parts, const std::string& path) : parts_(std::move(parts)) {
    Vocabulary& vocabulary = parts_.vocabulary;
    vocabulary.check_complete(path);
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
      bytes_[byte] = vocabulary.required(byte_token(byte), path);
      byte_of_.emplace(bytes_[byte], static_cast<char>(byte));
    }
    for (std::int64_t id = 0; id < vocabulary.size(); ++id) {
      const std::u32string token = to_characters(vocabulary.token(id));
      if (token.size() == 1 && !vocabulary.is_special(id)) characters_.emplace(token.front(), id);
    }
    Digest digest;
    digest.add("fallback bpe").add(std::to_string(static_cast<int>(parts_.front)));
    digest.add(parts_.split_at_marks ? "split" : "");
    digest.add(std::to_string(parts_.begin)).add(std::to_string(parts_.end));
    vocabulary.add_to(digest);
    parts_.merges.add_to(digest);
    digest_ = digest.hex();
  }

  std::int64_t vocabulary() const override { return parts_.vocabulary.size(); }
  std::string digest() const override { return digest_; }
  std::int64_t begin() const override { return parts_.begin; }
  std::int64_t end() const override { return parts_.end; }

  std::vector<std::int64_t> encode(std::string_view text) const override {
    std::u32string characters = to_characters(text);
    for (char32_t& character : characters) {
      if (character == ' ') character = kMark;
    }
    const bool has_mark = !characters.empty() && characters.front() == kMark;
    if (!characters.empty() &&
        (parts_.front == Front::kMark || (parts_.front == Front::kMarkUnlessThere && !has_mark)))
      characters.insert(characters.begin(), kMark);
    std::vector<std::int64_t> tokens, word;
    const auto flush = [&] {
      parts_.merges.apply(word);
      tokens.insert(tokens.end(), word.begin(), word.end());
      word.clear();
    };
    for (const char32_t character : characters) {
      if (parts_.split_at_marks && character == kMark) flush();
      spell(character, word);
    }
    flush();
    return tokens;
  }

  // Without the space that encode() puts in front. Bytes as they are: a part of a text may end
  // within a character.
  std::string decode(std::span<const std::int64_t> tokens) const override {
    std::string text;
    for (const std::int64_t id : tokens) {
      if (!parts_.vocabulary.contains(id) || parts_.vocabulary.is_special(id)) continue;
      if (const auto byte = byte_of_.find(id); byte != byte_of_.end()) {
        text += byte->second;
        continue;
      }
      for (const char32_t character : to_characters(parts_.vocabulary.token(id)))
        append_utf8(text, character == kMark ? U' ' : character);
    }
    if (parts_.front != Front::kNothing && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }

 private:
  void spell(char32_t character, std::vector<std::int64_t>& word) const {
    if (const auto found = characters_.find(character); found != characters_.end()) {
      word.push_back(found->second);
      return;
    }
    std::string bytes;
    append_utf8(bytes, character);
    for (const char byte : bytes) word.push_back(bytes_[static_cast<unsigned char>(byte)]);
  }

  FallbackBpeParts parts_;
  std::array<std::int64_t, 256> bytes_{};
  std::unordered_map<std::int64_t, char> byte_of_;
  std::unordered_map<char32_t, std::int64_t> characters_;
  std::string digest_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_fallback_bpe(FallbackBpeParts parts, const std::string& path) {
  return std::make_unique<FallbackBpe>(std::move(parts), path);
}

}  // namespace fedctl::data
