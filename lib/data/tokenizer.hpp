// Text to token numbers and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fedctl::data {

// One text, or a pair of them, as a model of the tokenizer's kind reads it.
struct Encoded {
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> segments;  // like tokens: 0 in the first text, 1 in the second
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::int64_t vocabulary() const = 0;
  // No start or end token. No text becomes a special token, however it is spelt. What is not UTF-8
  // becomes U+FFFD (a llama2.c tokenizer keeps the bytes). Throws DataError for a text of more than
  // 2^29 bytes.
  virtual std::vector<std::int64_t> encode(std::string_view text) const = 0;
  // Special tokens and numbers that are no token's give nothing.
  virtual std::string decode(std::span<const std::int64_t> tokens) const = 0;
  virtual std::string digest() const = 0;  // of what decides the tokens

  // Tokens that frame a text; -1 where the kind has none. begin/end: of a text that is continued
  // (<s>, </s>, <|endoftext|>).
  virtual std::int64_t begin() const { return -1; }
  virtual std::int64_t end() const { return -1; }
  // With the special tokens an encoder wants: [CLS] a [SEP] b [SEP] for BERT's kind; begin() a b
  // otherwise. At most `longest` tokens: the longer text is cut first, at its end. Precondition:
  // longest is at least the number of special tokens + 1.
  virtual Encoded frame(std::string_view first, std::optional<std::string_view> second,
                        std::size_t longest) const;
};

// Cuts tokens off the end of whichever text is longer until both together are at most `longest`.
void cut_longer(std::vector<std::int64_t>& first, std::vector<std::int64_t>& second,
                std::size_t longest);

// Opens by what `path` is: a folder (the first of tokenizer.json, vocab.txt, vocab.json with
// merges.txt, tokenizer.bin in it) or such a file itself; any other .bin is a llama2.c tokenizer.
// Throws DataError naming the file.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

// llama2.c's tokenizer file: int32 longest piece, then per piece float32 score, int32 length,
// bytes. SentencePiece-like BPE: characters first (bytes without a piece are token 3 + byte), then
// the adjacent pair whose merge has the best score, until none merges; a space is put in front of
// the text. begin() is 1, end() is 2. Throws DataError naming the file, also where it has not
// exactly `vocabulary` tokens; without one, as many as there are.
std::unique_ptr<Tokenizer> open_llama2c_tokenizer(
    const std::string& path, std::optional<std::int64_t> vocabulary = std::nullopt);

}  // namespace fedctl::data
