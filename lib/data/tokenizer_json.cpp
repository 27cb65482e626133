// tokenizer.json of Hugging Face's `tokenizers`, of three kinds: WordPiece with BertNormalizer and
// BertPreTokenizer, BPE with ByteLevel, and BPE with byte_fallback whose spaces are U+2581 by
// normalizers (Prepend, Replace) or by Metaspace. What would give other tokens is refused by its
// key. "truncation", "padding" and "decoder" are not read: frame() cuts, nothing is padded, and
// decode() belongs to the kind.
#include <nlohmann/json.hpp>
#include <optional>

#include "base/errors.hpp"
#include "data/detail/tokenizer_kinds.hpp"
#include "data/detail/tokenizer_node.hpp"

namespace fedctl::data {
namespace {

constexpr const char* kMark = "\xe2\x96\x81";  // U+2581

void require(const JsonNode& node, const std::string& value) {
  const std::string found = node.text();
  if (found != value) node.refuse("is \"" + found + "\", expected \"" + value + '"');
}

void require_absent(const JsonNode& parent, const std::string& key) {
  const JsonNode node = parent.child(key);
  if (node.is_null() || (node.is_text() && node.text().empty())) return;
  node.refuse("is not supported");
}

void require_off(const JsonNode& parent, const std::string& key) {
  if (parent.flag_or(key, false)) parent.child(key).refuse("is true, which is not supported");
}

// The model's tokens, then the added ones; those may repeat the model's.
Vocabulary read_tokens(const JsonNode& top) {
  Vocabulary vocabulary;
  top.at("model").at("vocab").add_tokens_to(vocabulary);
  if (!top.has("added_tokens")) return vocabulary;
  for (const JsonNode& added : top.child("added_tokens").elements()) {
    const std::string token = added.at("content").text();
    const std::int64_t id = added.at("id").integer();
    if (vocabulary.id_of(token) != id) vocabulary.add(token, id, added.place());
    if (added.flag_or("special", false)) vocabulary.mark_special(id);
  }
  return vocabulary;
}

// A template is a list of special tokens and of the texts A and B: "<s> A <s> B".
std::vector<std::string> read_template(const JsonNode& pieces) {
  std::vector<std::string> names;
  for (const JsonNode& piece : pieces.elements()) {
    if (piece.has("SpecialToken")) {
      names.push_back(piece.child("SpecialToken").at("id").text());
    } else {
      names.push_back(' ' + piece.at("Sequence").at("id").text());  // no token's name
    }
  }
  return names;
}

void read_frame(const JsonNode& top, WordPieceParts& parts) {
  if (!top.has("post_processor")) return;
  const JsonNode node = top.child("post_processor");
  const std::string type = node.at("type").text();
  if (type == "BertProcessing") {
    const auto name_at = [&](const char* key) {
      const std::vector<JsonNode> name_and_id = node.at(key).elements();
      if (name_and_id.size() != 2) node.at(key).refuse("is not a token with its number");
      return name_and_id[0].text();
    };
    parts.first = name_at("cls");
    parts.separator = name_at("sep");
    return;
  }
  if (type != "TemplateProcessing") node.child("type").refuse("\"" + type + "\" is not supported");
  const std::vector<std::string> single = read_template(node.at("single"));
  if (single.size() != 3 || single[1] != " A")
    node.child("single").refuse("is not of the form [CLS] A [SEP]");
  const std::vector<std::string> pair{single[0], " A", single[2], " B", single[2]};
  if (read_template(node.at("pair")) != pair)
    node.child("pair").refuse("is not of the form [CLS] A [SEP] B [SEP]");
  parts.first = single[0];
  parts.separator = single[2];
}

std::unique_ptr<Tokenizer> open_wordpiece(const JsonNode& top, const std::string& path) {
  WordPieceParts parts;
  const JsonNode model = top.at("model");
  model.allow(
      {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"});
  parts.unknown = model.text_or("unk_token", parts.unknown);
  parts.inside = model.text_or("continuing_subword_prefix", parts.inside);
  if (model.has("max_input_chars_per_word")) {
    const JsonNode node = model.child("max_input_chars_per_word");
    const std::int64_t longest = node.integer();
    if (longest < 1 || longest > 1000)
      node.refuse("is " + std::to_string(longest) + ", expected 1 to 1000");
    parts.word_characters_max = static_cast<std::size_t>(longest);
  }
  const JsonNode normalizer = top.at("normalizer");
  normalizer.allow({"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
  require(normalizer.at("type"), "BertNormalizer");
  parts.rules.clean = normalizer.flag_or("clean_text", true);
  parts.rules.space_chinese = normalizer.flag_or("handle_chinese_chars", true);
  parts.rules.lower_case = normalizer.flag_or("lowercase", true);
  parts.rules.strip_accents = normalizer.flag_or("strip_accents", parts.rules.lower_case);
  top.at("pre_tokenizer").allow({"type"});
  require(top.at("pre_tokenizer").at("type"), "BertPreTokenizer");
  read_frame(top, parts);
  parts.vocabulary = read_tokens(top);
  return make_wordpiece(std::move(parts), path);
}

Merges read_merges(const JsonNode& model, const Vocabulary& vocabulary) {
  Merges merges;
  for (const JsonNode& merge : model.at("merges").elements()) {
    if (!merge.is_text()) {
      const std::vector<JsonNode> pair = merge.elements();
      if (pair.size() != 2) merge.refuse("has not two tokens");
      merges.add(vocabulary, pair[0].text(), pair[1].text(), merge.place());
      continue;
    }
    const std::string text = merge.text();
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
      merge.refuse("is \"" + text + "\", expected two tokens with a space between");
    merges.add(vocabulary, text.substr(0, space), text.substr(space + 1), merge.place());
  }
  return merges;
}

// What both kinds of BPE share.
template <typename Parts>
void read_bpe(const JsonNode& top, Parts& parts, const std::string& path) {
  const JsonNode model = top.at("model");
  model.allow({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
               "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
    require_absent(model, key);
  require_off(model, "ignore_merges");
  parts.vocabulary = read_tokens(top);
  parts.merges = read_merges(model, parts.vocabulary);
  const auto first_special = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      const std::int64_t id = parts.vocabulary.id_of(name);
      if (id >= 0 && parts.vocabulary.is_special(id)) return id;
    }
    return std::int64_t{-1};
  };
  parts.begin = first_special({"<s>"});
  parts.end = first_special({"</s>", "<|endoftext|>"});
  if (!top.has("post_processor")) return;
  const JsonNode node = top.child("post_processor");
  const std::string type = node.at("type").text();
  if (type == "ByteLevel") return;  // moves offsets only
  if (type != "TemplateProcessing") node.child("type").refuse("\"" + type + "\" is not supported");
  const std::vector<std::string> single = read_template(node.at("single"));
  if (single.empty() || single.size() > 2 || single.back() != " A")
    node.child("single").refuse("is not of the form A or <s> A");
  if (single.size() == 1) return;
  parts.begin = parts.vocabulary.required(single.front(), path);
  if (!parts.vocabulary.is_special(parts.begin))
    node.child("single").refuse("begins with a token that added_tokens does not call special");
}

std::unique_ptr<Tokenizer> open_byte_bpe(const JsonNode& top, const std::string& path) {
  ByteBpeParts parts;
  require_absent(top, "normalizer");
  const JsonNode level = top.at("pre_tokenizer");
  level.allow({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  parts.space_in_front = level.flag_or("add_prefix_space", true);
  if (!level.flag_or("use_regex", true))
    level.child("use_regex").refuse("is false, which is not supported");
  require_off(top.at("model"), "byte_fallback");
  read_bpe(top, parts, path);
  return make_byte_bpe(std::move(parts), path);
}

// Replace of " " by the mark, and Prepend of the mark, alone or in a Sequence. Returns whether
// spaces are replaced.
bool read_normalizer(const JsonNode& node, FallbackBpeParts& parts) {
  const std::string type = node.at("type").text();
  if (type == "Sequence") {
    bool replaces = false;
    for (const JsonNode& part : node.at("normalizers").elements()) {
      if (part.at("type").text() == "Sequence") part.refuse("is a Sequence in a Sequence");
      replaces = read_normalizer(part, parts) || replaces;
    }
    return replaces;
  }
  if (type == "Prepend") {
    require(node.at("prepend"), kMark);
    if (parts.front != FallbackBpeParts::Front::kNothing) node.refuse("is there twice");
    parts.front = FallbackBpeParts::Front::kMark;
    return false;
  }
  if (type != "Replace") node.child("type").refuse("\"" + type + "\" is not supported");
  require(node.at("pattern").at("String"), " ");
  require(node.at("content"), kMark);
  return true;
}

void read_metaspace(const JsonNode& node, FallbackBpeParts& parts) {
  require(node.at("type"), "Metaspace");
  node.allow({"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  require(node.at("replacement"), kMark);
  const std::string otherwise = node.flag_or("add_prefix_space", true) ? "always" : "never";
  const std::string scheme = node.text_or("prepend_scheme", otherwise);
  if (scheme == "always" || scheme == "first") {
    parts.front = FallbackBpeParts::Front::kMarkUnlessThere;
  } else if (scheme != "never") {
    node.child("prepend_scheme").refuse("is \"" + scheme + "\", expected always, first or never");
  }
  parts.split_at_marks = node.flag_or("split", true);
}

std::unique_ptr<Tokenizer> open_fallback_bpe(const JsonNode& top, const std::string& path) {
  FallbackBpeParts parts;
  if (!top.at("model").flag_or("byte_fallback", false))
    top.at("model").child("byte_fallback").refuse("is false and the pre-tokenizer not ByteLevel");
  bool replaces = top.has("normalizer") && read_normalizer(top.child("normalizer"), parts);
  if (top.has("pre_tokenizer")) {
    if (replaces || parts.front != FallbackBpeParts::Front::kNothing)
      top.child("normalizer").refuse("and pre_tokenizer both make marks of spaces");
    read_metaspace(top.child("pre_tokenizer"), parts);
    replaces = true;
  }
  if (!replaces) top.child("normalizer").refuse("does not replace spaces by U+2581");
  read_bpe(top, parts, path);
  return make_fallback_bpe(std::move(parts), path);
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer_json(const std::string& path) {
  const nlohmann::json json = read_json(path);
  const JsonNode top(json, path);
  top.allow({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
             "post_processor", "decoder", "model"});
  const JsonNode model = top.at("model");
  const std::string type = model.at("type").text();
  if (type == "WordPiece") return open_wordpiece(top, path);
  if (type != "BPE") model.child("type").refuse("\"" + type + "\" is not supported");
  const bool byte_level =
      top.has("pre_tokenizer") && top.child("pre_tokenizer").at("type").text() == "ByteLevel";
  return byte_level ? open_byte_bpe(top, path) : open_fallback_bpe(top, path);
}

}  // namespace fedctl::data
