#include <algorithm>
#include <cmath>
#include <cstring>
#include <queue>
#include <unordered_map>

#include "base/digest.hpp"
#include "base/errors.hpp"
#include "base/limits.hpp"
#include "data/detail/file.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{64} << 20;
constexpr std::int32_t kPieceBytesMax = 256;
constexpr std::int64_t kFirstByteToken = 3;  // tokens 3..258 are the bytes 0..255
constexpr std::int64_t kGone = -1;
constexpr std::int64_t kFirstPieceToken = kFirstByteToken + 256;

class Llama2cTokenizer final : public Tokenizer {
 public:
  Llama2cTokenizer(const std::string& path, std::optional<std::int64_t> vocabulary) {
    const std::vector<std::uint8_t> bytes = read_file(path, kFileBytesMax);
    digest_ = digest_of(std::as_bytes(std::span(bytes)));
    std::size_t at = 0;
    const auto take = [&](void* out, std::size_t size, std::int64_t token) {
      if (size > bytes.size() - at) {
        throw DataError(path + ": ends early at byte " + std::to_string(at) + ", token " +
                            std::to_string(token) +
                            (vocabulary ? " of " + std::to_string(*vocabulary) : ""),
                        "data.tokenizer is a llama2.c tokenizer file such as tok512.bin");
      }
      if (size > 0) std::memcpy(out, bytes.data() + at, size);
      at += size;
    };
    std::int32_t longest = 0;
    take(&longest, sizeof longest, 0);
    const std::int32_t length_max = std::min(longest, kPieceBytesMax);
    const std::int64_t count_max =
        vocabulary.value_or(static_cast<std::int64_t>(limits::kVocabularyMax));
    const auto wants_more = [&](std::int64_t token) {
      return vocabulary || token < kFirstPieceToken || at < bytes.size();
    };
    for (std::int64_t token = 0; token < count_max && wants_more(token); ++token) {
      float score = 0;
      std::int32_t length = 0;
      take(&score, sizeof score, token);
      take(&length, sizeof length, token);
      if (length < 0 || length > length_max || !std::isfinite(score)) {
        throw DataError(path + ": token " + std::to_string(token) + " claims " +
                            std::to_string(length) + " bytes and score " + std::to_string(score) +
                            ", expected 0 to " + std::to_string(length_max) + " and a number",
                        "data.tokenizer is a llama2.c tokenizer file such as tok512.bin");
      }
      std::string piece(static_cast<std::size_t>(length), '\0');
      take(piece.data(), piece.size(), token);
      // A text that spells "<s>" or "<0x0A>" must not become a token that means something else.
      if (token >= kFirstPieceToken) ids_.try_emplace(piece, token);
      pieces_.push_back(std::move(piece));
      scores_.push_back(score);
    }
    if (at != bytes.size()) {
      throw DataError(path + ": " + std::to_string(bytes.size() - at) + " bytes follow token " +
                          std::to_string(count_max - 1),
                      "data.vocabulary must be the number of tokens in the file");
    }
  }

  std::int64_t vocabulary() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::string digest() const override { return digest_; }
  std::int64_t begin() const override { return 1; }
  std::int64_t end() const override { return 2; }

  std::vector<std::int64_t> encode(std::string_view text) const override {
    std::vector<std::int64_t> tokens;
    if (text.empty()) return tokens;
    if (const auto space = ids_.find(" "); space != ids_.end()) tokens.push_back(space->second);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = character_bytes(text, at);
      const auto found = ids_.find(std::string(text.substr(at, length)));
      if (found != ids_.end()) {
        tokens.push_back(found->second);
      } else {
        for (const char byte : text.substr(at, length)) {
          tokens.push_back(kFirstByteToken + static_cast<unsigned char>(byte));
        }
      }
      at += length;
    }
    merge(tokens);
    return tokens;
  }

  std::string decode(std::span<const std::int64_t> tokens) const override {
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto id = static_cast<std::size_t>(tokens[i]);
      if (tokens[i] < kFirstByteToken || id >= pieces_.size()) continue;  // unknown, start, end
      if (tokens[i] < kFirstPieceToken) {
        text += static_cast<char>(tokens[i] - kFirstByteToken);
      } else {
        text += pieces_[id];
      }
    }
    return text;
  }

 private:
  // Bytes of the UTF-8 character at `at`, at most four and within the text; damaged text goes byte
  // by byte.
  static std::size_t character_bytes(std::string_view text, std::size_t at) {
    std::size_t length = 1;
    while (length < 4 && at + length < text.size() &&
           (static_cast<unsigned char>(text[at + length]) & 0xc0U) == 0x80U) {
      ++length;
    }
    return length;
  }

  // A merge that was possible when it was queued; it still is if both neighbours are as they were.
  struct Merge {
    float score;
    std::size_t left, right;
    std::int64_t left_token, right_token, token;
    // The queue hands out the best score first, and of equals the one furthest to the left.
    bool operator<(const Merge& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };

  // Merges the adjacent pair with the best score until none merges. Tokens are linked, not moved,
  // so that a whole role's text costs n log n.
  void merge(std::vector<std::int64_t>& tokens) const {
    const std::size_t end = tokens.size();
    std::vector<std::size_t> next(end), previous(end);
    std::priority_queue<Merge> queue;
    const auto offer = [&](std::size_t left) {
      const std::size_t right = next[left];
      if (right == end) return;
      const auto found = ids_.find(piece(tokens[left]) + piece(tokens[right]));
      if (found == ids_.end()) return;
      const float score = scores_[static_cast<std::size_t>(found->second)];
      queue.push({score, left, right, tokens[left], tokens[right], found->second});
    };
    for (std::size_t i = 0; i < end; ++i) {
      next[i] = i + 1;
      previous[i] = i - 1;  // of the first: never followed
    }
    for (std::size_t i = 0; i < end; ++i) offer(i);
    while (!queue.empty()) {
      const Merge best = queue.top();
      queue.pop();
      if (tokens[best.left] != best.left_token || next[best.left] != best.right ||
          tokens[best.right] != best.right_token)
        continue;
      tokens[best.left] = best.token;
      tokens[best.right] = kGone;
      next[best.left] = next[best.right];
      if (next[best.left] != end) previous[next[best.left]] = best.left;
      offer(best.left);
      if (best.left != 0) offer(previous[best.left]);
    }
    std::erase(tokens, kGone);
  }
  const std::string& piece(std::int64_t token) const {
    return pieces_[static_cast<std::size_t>(token)];
  }

  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::unordered_map<std::string, std::int64_t> ids_;  // of pieces, not of bytes or marks
  std::string digest_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_llama2c_tokenizer(const std::string& path,
                                                  std::optional<std::int64_t> vocabulary) {
  if (vocabulary && (*vocabulary < kFirstPieceToken ||
                     *vocabulary > static_cast<std::int64_t>(limits::kVocabularyMax))) {
    throw DataError(path + ": a vocabulary of " + std::to_string(*vocabulary) +
                        " tokens, expected " + std::to_string(kFirstPieceToken) + " to " +
                        std::to_string(limits::kVocabularyMax),
                    "three marks and 256 bytes come before the pieces");
  }
  return std::make_unique<Llama2cTokenizer>(path, vocabulary);
}

}  // namespace fedctl::data
