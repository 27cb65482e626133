// BERT's vocab.txt (a token a line; its number is the line's, from 0) and GPT-2's pair of
// vocab.json (token -> number) and merges.txt (two tokens a line, first merge first, "#version" on
// top).
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/detail/tokenizer_kinds.hpp"
#include "data/detail/tokenizer_node.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{64} << 20;

// Calls visit(line, "path:number") for every line, without its end.
template <typename Visit>
void each_line(const std::string& path, Visit visit) {
  const std::vector<std::uint8_t> bytes = read_file(path, kFileBytesMax);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    visit(line, path + ':' + std::to_string(++number));
    at = end + 1;
  }
}

// transformers' tokenizer_config.json beside the vocabulary says whether it has capitals.
BertRules rules_beside(const std::string& vocab) {
  BertRules rules;
  const std::string folder = std::filesystem::path(vocab).parent_path().string();
  const std::string path = find_in(folder.empty() ? "." : folder, {"tokenizer_config.json"});
  if (path.empty()) return rules;
  const nlohmann::json json = read_json(path);
  const JsonNode top(json, path);
  rules.lower_case = top.flag_or("do_lower_case", true);
  rules.strip_accents = top.flag_or("strip_accents", rules.lower_case);
  rules.space_chinese = top.flag_or("tokenize_chinese_chars", true);
  return rules;
}

}  // namespace

std::unique_ptr<Tokenizer> open_vocab_txt(const std::string& path) {
  WordPieceParts parts;
  each_line(path, [&](std::string_view line, const std::string& place) {
    parts.vocabulary.add(std::string(line), parts.vocabulary.size(), place);
  });
  parts.rules = rules_beside(path);
  return make_wordpiece(std::move(parts), path);
}

std::unique_ptr<Tokenizer> open_vocab_and_merges(const std::string& vocab,
                                                 const std::string& merges) {
  ByteBpeParts parts;
  const nlohmann::json json = read_json(vocab);
  JsonNode(json, vocab).add_tokens_to(parts.vocabulary);
  parts.end = parts.vocabulary.id_of("<|endoftext|>");
  if (parts.end >= 0) parts.vocabulary.mark_special(parts.end);
  each_line(merges, [&](std::string_view line, const std::string& place) {
    if (line.empty() || line.starts_with("#version")) return;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      throw DataError(place + ": \"" + std::string(line.substr(0, 80)) +
                          "\", expected two tokens with a space between",
                      "is it the merges.txt that goes with vocab.json?");
    }
    parts.merges.add(parts.vocabulary, line.substr(0, space), line.substr(space + 1), place);
  });
  return make_byte_bpe(std::move(parts), vocab);
}

}  // namespace fedctl::data
