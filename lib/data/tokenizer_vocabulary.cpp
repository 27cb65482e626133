#include "data/detail/tokenizer_vocabulary.hpp"

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "data/detail/tokenizer_text.hpp"

namespace fedctl::data {
namespace {

constexpr std::size_t kTokenBytesMax = 4096;
constexpr const char* kHint = "is it the tokenizer's file as it was published?";

}  // namespace

void Vocabulary::add(const std::string& token, std::int64_t id, const std::string& place) {
  if (token.empty()) throw DataError(place + ": the token is empty", kHint);
  if (token.size() > kTokenBytesMax) {
    throw DataError(place + ": the token has " + std::to_string(token.size()) +
                        " bytes, expected at most " + std::to_string(kTokenBytesMax),
                    kHint);
  }
  if (!is_utf8(token)) throw DataError(place + ": the token is not UTF-8", kHint);
  if (id < 0 || id >= static_cast<std::int64_t>(limits::kVocabularyMax)) {
    throw DataError(place + ": the number of token \"" + token + "\" is " + std::to_string(id) +
                        ", expected 0 to " + std::to_string(limits::kVocabularyMax - 1),
                    kHint);
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens_.size()) {
    tokens_.resize(index + 1);
    special_.resize(index + 1);
  }
  if (!tokens_[index].empty()) {
    throw DataError(place + ": number " + std::to_string(id) + " is both \"" + tokens_[index] +
                        "\" and \"" + token + '"',
                    kHint);
  }
  const auto [entry, is_new] = ids_.try_emplace(token, id);
  if (!is_new) {
    throw DataError(place + ": token \"" + token + "\" is there twice, as " +
                        std::to_string(entry->second) + " and " + std::to_string(id),
                    kHint);
  }
  tokens_[index] = token;
}

void Vocabulary::mark_special(std::int64_t id) { special_[static_cast<std::size_t>(id)] = true; }

void Vocabulary::check_complete(const std::string& path) const {
  if (tokens_.empty()) throw DataError(path + ": no tokens", kHint);
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    if (!tokens_[id].empty()) continue;
    throw DataError(path + ": no token has number " + std::to_string(id) +
                        ", expected one for 0 to " + std::to_string(tokens_.size() - 1),
                    kHint);
  }
}

std::int64_t Vocabulary::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

std::int64_t Vocabulary::plain_id_of(std::string_view token) const {
  const std::int64_t id = id_of(token);
  return id >= 0 && is_special(id) ? -1 : id;
}

std::int64_t Vocabulary::required(const std::string& token, const std::string& path) const {
  const std::int64_t id = id_of(token);
  if (id < 0) throw DataError(path + ": token \"" + token + "\" is missing", kHint);
  return id;
}

void Vocabulary::add_to(Digest& digest) const {
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    digest.add(tokens_[id]).add(special_[id] ? "special" : "");
  }
}

}  // namespace fedctl::data
