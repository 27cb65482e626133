// The kinds of tokenizer, by their parts: what the readers of the file formats fill in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/detail/tokenizer_merges.hpp"
#include "data/detail/tokenizer_text.hpp"
#include "data/detail/tokenizer_vocabulary.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::data {

// Every maker checks the parts and throws DataError naming `path`.

struct WordPieceParts {
  Vocabulary vocabulary;
  BertRules rules;
  std::string unknown = "[UNK]";
  std::string first = "[CLS]";
  std::string separator = "[SEP]";
  std::string inside = "##";  // in front of a piece that does not begin a word
  std::size_t word_characters_max = 100;
};
std::unique_ptr<Tokenizer> make_wordpiece(WordPieceParts parts, const std::string& path);

struct ByteBpeParts {
  Vocabulary vocabulary;
  Merges merges;
  bool space_in_front = false;
  std::int64_t begin = -1;
  std::int64_t end = -1;
};
std::unique_ptr<Tokenizer> make_byte_bpe(ByteBpeParts parts, const std::string& path);

struct FallbackBpeParts {
  enum class Front { kNothing, kMark, kMarkUnlessThere };
  Vocabulary vocabulary;
  Merges merges;
  Front front = Front::kNothing;
  bool split_at_marks = false;
  std::int64_t begin = -1;
  std::int64_t end = -1;
};
std::unique_ptr<Tokenizer> make_fallback_bpe(FallbackBpeParts parts, const std::string& path);

// The file formats.
std::unique_ptr<Tokenizer> open_vocab_txt(const std::string& path);
std::unique_ptr<Tokenizer> open_vocab_and_merges(const std::string& vocab,
                                                 const std::string& merges);
std::unique_ptr<Tokenizer> open_tokenizer_json(const std::string& path);

}  // namespace fedctl::data
