// Unicode as tokenizers see it. The tables are ICU's, bent where Hugging Face's `tokenizers` 0.23
// differs from them: its BERT rules know the categories of Unicode 8 and no later ones.
#pragma once

#include <string>
#include <string_view>

namespace fedctl::data {

// UTF-8 to characters; every damaged sequence becomes U+FFFD. Throws DataError for a text of more
// than 2^29 bytes.
std::u32string to_characters(std::string_view text);
bool is_utf8(std::string_view text);
void append_utf8(std::string& out, char32_t character);

// The classes \p{L}, \p{N}, \s and what is left, in GPT-2's pattern.
enum class CharacterClass { kLetter, kNumber, kSpace, kOther };
CharacterClass class_of(char32_t character);

// BERT's "basic" rules.
struct BertRules {
  bool clean = true;          // drop control characters, every white space becomes a space
  bool space_chinese = true;  // a space on either side of a CJK ideograph
  bool strip_accents = true;  // NFD, then without non-spacing marks
  bool lower_case = true;
};
std::u32string bert_normalized(const std::u32string& text, const BertRules& rules);
bool is_bert_punctuation(char32_t character);
bool is_white_space(char32_t character);

}  // namespace fedctl::data
