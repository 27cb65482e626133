// WordPiece (Wu et al., 2016) as BERT uses it: words between white space and punctuation, each cut
// greedily into the longest pieces that are tokens. Deviation from `tokenizers`: "[SEP]" and other
// special tokens in a text are text.
#include "base/assert.hpp"
#include "base/errors.hpp"
#include "data/detail/tokenizer_kinds.hpp"

namespace fedctl::data {
namespace {

class WordPiece final : public Tokenizer {
 public:
  WordPiece(WordPieceParts parts, const std::string& path) : parts_(std::move(parts)) {
    Vocabulary& vocabulary = parts_.vocabulary;
    vocabulary.check_complete(path);
    unknown_ = vocabulary.required(parts_.unknown, path);
    first_ = vocabulary.required(parts_.first, path);
    separator_ = vocabulary.required(parts_.separator, path);
    for (const std::int64_t id : {unknown_, first_, separator_}) vocabulary.mark_special(id);
    Digest digest;
    digest.add("wordpiece").add(parts_.inside).add(std::to_string(parts_.word_characters_max));
    for (const bool rule : {parts_.rules.clean, parts_.rules.space_chinese,
                            parts_.rules.strip_accents, parts_.rules.lower_case})
      digest.add(rule ? "yes" : "no");
    digest.add(parts_.unknown).add(parts_.first).add(parts_.separator);
    vocabulary.add_to(digest);
    digest_ = digest.hex();
  }

  std::int64_t vocabulary() const override { return parts_.vocabulary.size(); }
  std::string digest() const override { return digest_; }

  std::vector<std::int64_t> encode(std::string_view text) const override {
    std::vector<std::int64_t> tokens;
    std::u32string word;
    const auto flush = [&] {
      if (!word.empty()) add_word(word, tokens);
      word.clear();
    };
    for (const char32_t character : bert_normalized(to_characters(text), parts_.rules)) {
      const bool space = is_white_space(character), mark = is_bert_punctuation(character);
      if (space || mark) flush();
      if (!space) word += character;
      if (mark) flush();
    }
    flush();
    return tokens;
  }

  // Words with a space between: WordPiece forgets where the spaces were.
  std::string decode(std::span<const std::int64_t> tokens) const override {
    std::string text;
    for (const std::int64_t id : tokens) {
      if (!parts_.vocabulary.contains(id) || parts_.vocabulary.is_special(id)) continue;
      const std::string& token = parts_.vocabulary.token(id);
      if (!parts_.inside.empty() && token.starts_with(parts_.inside)) {
        text += token.substr(parts_.inside.size());
      } else {
        text += (text.empty() ? "" : " ") + token;
      }
    }
    return text;
  }

  Encoded frame(std::string_view first, std::optional<std::string_view> second,
                std::size_t longest) const override {
    const std::size_t special = second ? 3 : 2;
    FEDCTL_ASSERT(longest > special);
    std::vector<std::int64_t> a = encode(first);
    std::vector<std::int64_t> b = second ? encode(*second) : std::vector<std::int64_t>();
    cut_longer(a, b, longest - special);
    Encoded framed;
    framed.tokens.push_back(first_);
    framed.tokens.insert(framed.tokens.end(), a.begin(), a.end());
    framed.tokens.push_back(separator_);
    framed.segments.assign(framed.tokens.size(), 0);
    if (second) {
      framed.tokens.insert(framed.tokens.end(), b.begin(), b.end());
      framed.tokens.push_back(separator_);
      framed.segments.resize(framed.tokens.size(), 1);
    }
    return framed;
  }

 private:
  // A word that is too long, or has a part that is no token, is unknown as a whole.
  void add_word(const std::u32string& word, std::vector<std::int64_t>& tokens) const {
    if (word.size() > parts_.word_characters_max) {
      tokens.push_back(unknown_);
      return;
    }
    std::string bytes;
    std::vector<std::size_t> starts;  // of each character, and the end
    for (const char32_t character : word) {
      starts.push_back(bytes.size());
      append_utf8(bytes, character);
    }
    starts.push_back(bytes.size());
    const std::size_t before = tokens.size();
    for (std::size_t from = 0; from < word.size();) {
      const std::string prefix = from == 0 ? "" : parts_.inside;
      std::string piece = prefix + bytes.substr(starts[from]);
      std::size_t to = word.size();
      std::int64_t id = parts_.vocabulary.plain_id_of(piece);
      while (id < 0 && --to > from) {
        piece.resize(prefix.size() + starts[to] - starts[from]);
        id = parts_.vocabulary.plain_id_of(piece);
      }
      if (id < 0) {
        tokens.resize(before);
        tokens.push_back(unknown_);
        return;
      }
      tokens.push_back(id);
      from = to;
    }
  }

  WordPieceParts parts_;
  std::int64_t unknown_ = -1, first_ = -1, separator_ = -1;
  std::string digest_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_wordpiece(WordPieceParts parts, const std::string& path) {
  return std::make_unique<WordPiece>(std::move(parts), path);
}

}  // namespace fedctl::data
