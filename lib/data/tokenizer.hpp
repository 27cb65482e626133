// Text to token numbers and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fedctl::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::int64_t vocabulary() const = 0;
  virtual std::vector<std::int64_t> encode(
      std::string_view text) const = 0;  // no start or end token
  virtual std::string decode(std::span<const std::int64_t> tokens) const = 0;
  virtual std::string digest() const = 0;
};

// llama2.c's tokenizer file: int32 longest piece, then per piece float32 score, int32 length,
// bytes. SentencePiece-like BPE: characters first (bytes without a piece are token 3 + byte), then
// the adjacent pair whose merge has the best score, until none merges; a space is put in front of
// the text. Throws DataError naming the file.
std::unique_ptr<Tokenizer> open_llama2c_tokenizer(const std::string& path, std::int64_t vocabulary);

}  // namespace fedctl::data
