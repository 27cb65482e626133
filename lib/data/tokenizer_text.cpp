#include "data/detail/tokenizer_text.hpp"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cstdint>

#include "base/assert.hpp"
#include "base/errors.hpp"

namespace fedctl::data {
namespace {

constexpr std::size_t kTextBytesMax = std::size_t{1} << 29;  // ICU counts in int32_t
constexpr std::uint8_t kBertUnicodeVersion = 8;
constexpr char32_t kReplacement = 0xfffd;
constexpr char32_t kDottedI = 0x130;  // the one character whose lower case is two
constexpr char32_t kDotAbove = 0x307;

UChar32 icu_of(char32_t character) { return static_cast<UChar32>(character); }

// The character at `at`, which moves behind it; negative if damaged.
UChar32 next_character(std::string_view text, std::int32_t& at) {
  const auto length = static_cast<std::int32_t>(text.size());
  UChar32 character = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"  // in ICU's macro
  U8_NEXT(text.data(), at, length, character);
#pragma GCC diagnostic pop
  return character;
}

bool known_to_bert(char32_t character) {
  UVersionInfo age;
  u_charAge(icu_of(character), age);
  return age[0] <= kBertUnicodeVersion;
}

bool is_dropped(char32_t character) {
  if (character == '\t' || character == '\n' || character == '\r') return false;
  if (character == 0 || character == kReplacement) return true;
  const auto type = u_charType(icu_of(character));
  return type == U_CONTROL_CHAR || type == U_PRIVATE_USE_CHAR ||
         (type == U_FORMAT_CHAR && known_to_bert(character));
}

// Non-spacing marks of Unicode 8; the exceptions changed category since.
bool is_accent(char32_t character) {
  switch (character) {
    case 0x1734:
      return true;
    case 0x1885:
    case 0x1886:
    case 0xa9bd:
    case 0x111c9:
      return false;
    default:
      return u_charType(icu_of(character)) == U_NON_SPACING_MARK && known_to_bert(character);
  }
}

// U+2B820 to U+2B91F are missing as they are from `tokenizers`.
bool is_chinese(char32_t c) {
  const auto within = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
  return within(0x4e00, 0x9fff) || within(0x3400, 0x4dbf) || within(0x20000, 0x2a6df) ||
         within(0x2a700, 0x2b73f) || within(0x2b740, 0x2b81f) || within(0x2b920, 0x2ceaf) ||
         within(0xf900, 0xfaff) || within(0x2f800, 0x2fa1f);
}

std::u32string cleaned(const std::u32string& text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t character : text) {
    if (is_dropped(character)) continue;
    out += is_white_space(character) ? U' ' : character;
  }
  return out;
}

std::u32string with_chinese_apart(const std::u32string& text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t character : text) {
    if (is_chinese(character)) {
      out += {U' ', character, U' '};
    } else {
      out += character;
    }
  }
  return out;
}

std::u32string without_accents(const std::u32string& text) {
  // Nothing below U+00C0 decomposes or is a mark.
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0xc0; })) return text;
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfd = icu::Normalizer2::getNFDInstance(error);
  FEDCTL_ASSERT(U_SUCCESS(error));
  icu::UnicodeString units;
  for (const char32_t character : text) units.append(icu_of(character));
  const icu::UnicodeString decomposed = nfd->normalize(units, error);
  FEDCTL_ASSERT(U_SUCCESS(error));
  std::u32string out;
  out.reserve(text.size());
  for (std::int32_t at = 0; at < decomposed.length();) {
    const UChar32 character = decomposed.char32At(at);
    at += U16_LENGTH(character);
    if (!is_accent(static_cast<char32_t>(character))) out += static_cast<char32_t>(character);
  }
  return out;
}

std::u32string lowered(const std::u32string& text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t character : text) {
    if (character == kDottedI) {
      out += {U'i', kDotAbove};
    } else {
      out += static_cast<char32_t>(u_tolower(icu_of(character)));
    }
  }
  return out;
}

}  // namespace

std::u32string to_characters(std::string_view text) {
  if (text.size() > kTextBytesMax) {
    throw DataError("a text of " + std::to_string(text.size()) + " bytes, expected at most " +
                        std::to_string(kTextBytesMax),
                    "cut it into pieces");
  }
  std::u32string out;
  out.reserve(text.size());
  const auto length = static_cast<std::int32_t>(text.size());
  for (std::int32_t at = 0; at < length;) {
    const UChar32 character = next_character(text, at);
    out += character < 0 ? kReplacement : static_cast<char32_t>(character);
  }
  return out;
}

bool is_utf8(std::string_view text) {
  if (text.size() > kTextBytesMax) return false;
  const auto length = static_cast<std::int32_t>(text.size());
  for (std::int32_t at = 0; at < length;) {
    if (next_character(text, at) < 0) return false;
  }
  return true;
}

void append_utf8(std::string& out, char32_t character) {
  char bytes[U8_MAX_LENGTH];
  std::int32_t length = 0;
  U8_APPEND_UNSAFE(bytes, length, icu_of(character));
  out.append(bytes, static_cast<std::size_t>(length));
}

CharacterClass class_of(char32_t character) {
  const std::uint32_t category = U_GET_GC_MASK(icu_of(character));
  if ((category & U_GC_L_MASK) != 0) return CharacterClass::kLetter;
  if ((category & U_GC_N_MASK) != 0) return CharacterClass::kNumber;
  return is_white_space(character) ? CharacterClass::kSpace : CharacterClass::kOther;
}

std::u32string bert_normalized(const std::u32string& text, const BertRules& rules) {
  std::u32string out = rules.clean ? cleaned(text) : text;
  if (rules.space_chinese) out = with_chinese_apart(out);
  if (rules.strip_accents) out = without_accents(out);
  if (rules.lower_case) out = lowered(out);
  return out;
}

// Every mark of ASCII, and the punctuation of Unicode 8; the exceptions changed category since.
bool is_bert_punctuation(char32_t character) {
  if (character < 0x80) {
    return character > ' ' && character < 0x7f && u_isalnum(icu_of(character)) == 0;
  }
  if (character == 0x166d || character == 0x111c9) return true;
  return u_ispunct(icu_of(character)) != 0 && known_to_bert(character);
}

bool is_white_space(char32_t character) {
  return u_hasBinaryProperty(icu_of(character), UCHAR_WHITE_SPACE) != 0;
}

}  // namespace fedctl::data
