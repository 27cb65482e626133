#include <cstring>
#include <map>

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

class Llama2cTokenizer final : public Tokenizer {
 public:
  Llama2cTokenizer(const std::string& path, std::int64_t vocabulary) {
    const std::vector<std::uint8_t> bytes = read_file(path, kFileBytesMax);
    digest_ = digest_of(std::as_bytes(std::span(bytes)));
    std::size_t at = 0;
    const auto take = [&](void* out, std::size_t size, std::int64_t token) {
      if (size > bytes.size() - at) {
        throw DataError(path + ": ends early at byte " + std::to_string(at) + ", token " +
                            std::to_string(token) + " of " + std::to_string(vocabulary),
                        "data.tokenizer is a llama2.c tokenizer file such as tok512.bin");
      }
      std::memcpy(out, bytes.data() + at, size);
      at += size;
    };
    std::int32_t longest = 0;
    take(&longest, sizeof longest, 0);
    for (std::int64_t token = 0; token < vocabulary; ++token) {
      float score = 0;
      std::int32_t length = 0;
      take(&score, sizeof score, token);
      take(&length, sizeof length, token);
      if (length < 0 || length > kPieceBytesMax) {
        throw DataError(path + ": token " + std::to_string(token) + " claims " +
                        std::to_string(length) + " bytes, expected 0 to " +
                        std::to_string(kPieceBytesMax));
      }
      std::string piece(static_cast<std::size_t>(length), '\0');
      take(piece.data(), piece.size(), token);
      ids_.try_emplace(piece, token);
      pieces_.push_back(std::move(piece));
      scores_.push_back(score);
    }
  }

  std::int64_t vocabulary() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::string digest() const override { return digest_; }

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
      if (id < static_cast<std::size_t>(kFirstByteToken) + 256) {
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

  // Merges the adjacent pair with the best score until none merges; the first of equals. Pairs are
  // looked up anew only where a merge changed them, so that long texts cost O(n^2) comparisons of
  // floats, not of strings.
  void merge(std::vector<std::int64_t>& tokens) const {
    std::vector<std::int64_t> joined(tokens.size(), -1);  // token of pair (i, i + 1), or -1
    const auto look_up = [&](std::size_t i) {
      joined[i] = -1;
      if (i + 1 >= tokens.size()) return;
      const std::string pair = pieces_[static_cast<std::size_t>(tokens[i])] +
                               pieces_[static_cast<std::size_t>(tokens[i + 1])];
      const auto found = ids_.find(pair);
      if (found != ids_.end()) joined[i] = found->second;
    };
    for (std::size_t i = 0; i < tokens.size(); ++i) look_up(i);
    while (true) {
      std::size_t best = tokens.size();
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        if (joined[i] < 0) continue;
        if (best == tokens.size() || score(joined[i]) > score(joined[best])) best = i;
      }
      if (best == tokens.size()) return;
      tokens[best] = joined[best];
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      joined.erase(joined.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      look_up(best);
      if (best > 0) look_up(best - 1);
    }
  }
  float score(std::int64_t token) const { return scores_[static_cast<std::size_t>(token)]; }

  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::map<std::string, std::int64_t> ids_;
  std::string digest_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_llama2c_tokenizer(const std::string& path,
                                                  std::int64_t vocabulary) {
  if (vocabulary < 1 || vocabulary > static_cast<std::int64_t>(limits::kVocabularyMax)) {
    throw DataError(path + ": a vocabulary of " + std::to_string(vocabulary) +
                    " tokens is out of range");
  }
  return std::make_unique<Llama2cTokenizer>(path, vocabulary);
}

}  // namespace fedctl::data
