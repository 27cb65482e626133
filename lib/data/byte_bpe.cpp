// Byte-level BPE (Radford et al., GPT-2, 2019): a text is cut by GPT-2's pattern, each cut's UTF-8
// bytes are spelt in 256 printable characters, and those are merged. Every text has tokens and
// comes back from them. Deviation from `tokenizers`: special tokens in a text are text, and what is
// not UTF-8 becomes U+FFFD.
#include <array>
#include <unordered_map>

#include "base/errors.hpp"
#include "data/detail/tokenizer_kinds.hpp"

namespace fedctl::data {
namespace {

// The printable bytes of Latin-1 stand for themselves, the others for U+0100 and on, in order.
std::array<char32_t, 256> byte_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t spare = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    alphabet[byte] = printable ? byte : spare++;
  }
  return alphabet;
}

// Where the first match of GPT-2's pattern at `at` ends:
// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t cut_end(const std::u32string& text, std::size_t at) {
  if (text[at] == '\'') {
    for (const std::u32string_view tail : {U"s", U"t", U"re", U"ve", U"m", U"ll", U"d"}) {
      if (text.compare(at + 1, tail.size(), tail) == 0) return at + 1 + tail.size();
    }
  }
  const std::size_t start = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
  const CharacterClass kind = class_of(text[start]);
  std::size_t end = start;
  if (kind != CharacterClass::kSpace) {
    while (end < text.size() && class_of(text[end]) == kind) ++end;
    return end;
  }
  end = at;
  while (end < text.size() && class_of(text[end]) == CharacterClass::kSpace) ++end;
  // White space before a word leaves its last character to the word.
  return end == text.size() || end == at + 1 ? end : end - 1;
}

class ByteBpe final : public Tokenizer {
 public:
  ByteBpe(ByteBpeParts parts, const std::string& path) : parts_(std::move(parts)) {
    const std::array<char32_t, 256> alphabet = byte_alphabet();
    for (std::size_t byte = 0; byte < alphabet.size(); ++byte) {
      std::string spelt;
      append_utf8(spelt, alphabet[byte]);
      const std::int64_t id = parts_.vocabulary.plain_id_of(spelt);
      if (id < 0) {
        throw DataError(path + ": byte " + std::to_string(byte) + " (\"" + spelt +
                            "\") has no token, expected one for each of the 256 bytes",
                        "train it with the whole byte alphabet");
      }
      bytes_[byte] = id;
      byte_of_.emplace(alphabet[byte], static_cast<char>(byte));
    }
    parts_.vocabulary.check_complete(path);
    Digest digest;
    digest.add("byte bpe").add(parts_.space_in_front ? "space" : "");
    digest.add(std::to_string(parts_.begin)).add(std::to_string(parts_.end));
    parts_.vocabulary.add_to(digest);
    parts_.merges.add_to(digest);
    digest_ = digest.hex();
  }

  std::int64_t vocabulary() const override { return parts_.vocabulary.size(); }
  std::string digest() const override { return digest_; }
  std::int64_t begin() const override { return parts_.begin; }
  std::int64_t end() const override { return parts_.end; }

  std::vector<std::int64_t> encode(std::string_view text) const override {
    std::u32string characters = to_characters(text);
    if (parts_.space_in_front && !characters.empty() && characters.front() != ' ')
      characters.insert(characters.begin(), U' ');
    std::vector<std::int64_t> tokens, word;
    std::string bytes;
    for (std::size_t at = 0; at < characters.size();) {
      const std::size_t end = cut_end(characters, at);
      bytes.clear();
      for (; at < end; ++at) append_utf8(bytes, characters[at]);
      word.clear();
      for (const char byte : bytes) word.push_back(bytes_[static_cast<unsigned char>(byte)]);
      parts_.merges.apply(word);
      tokens.insert(tokens.end(), word.begin(), word.end());
    }
    return tokens;
  }

  // Bytes as they are: a part of a text may end within a character.
  std::string decode(std::span<const std::int64_t> tokens) const override {
    std::string text;
    for (const std::int64_t id : tokens) {
      if (!parts_.vocabulary.contains(id) || parts_.vocabulary.is_special(id)) continue;
      for (const char32_t character : to_characters(parts_.vocabulary.token(id))) {
        const auto found = byte_of_.find(character);
        if (found != byte_of_.end()) {
          text += found->second;
        } else {
          append_utf8(text, character);  // an added token, written as it is
        }
      }
    }
    return text;
  }

 private:
  ByteBpeParts parts_;
  std::array<std::int64_t, 256> bytes_{};
  std::unordered_map<char32_t, char> byte_of_;
  std::string digest_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_bpe(ByteBpeParts parts, const std::string& path) {
  return std::make_unique<ByteBpe>(std::move(parts), path);
}

}  // namespace fedctl::data
