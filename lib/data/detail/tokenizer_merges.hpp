// Byte-pair merges (Sennrich, Haddow and Birch, 2016): which neighbours become one token, and which
// go first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/digest.hpp"
#include "data/detail/tokenizer_vocabulary.hpp"

namespace fedctl::data {

class Merges {
 public:
  // The next merge in rank. Throws DataError at `place` if a side or the result is no token, if the
  // pair has a rank already, or if the result is special: no text may spell such a token.
  void add(const Vocabulary& vocabulary, std::string_view left, std::string_view right,
           const std::string& place);
  // Merges neighbours, lowest rank first and of equals the leftmost, until none merges. n log n in
  // the number of tokens.
  void apply(std::vector<std::int64_t>& tokens) const;
  std::size_t size() const { return pairs_.size(); }
  void add_to(Digest& digest) const;

 private:
  struct Result {
    std::uint32_t rank;
    std::int64_t token;
  };
  const Result* find(std::int64_t left, std::int64_t right) const;

  std::unordered_map<std::uint64_t, Result> results_;  // by both tokens' numbers
  std::vector<std::uint64_t> pairs_;                   // in rank's order
};

}  // namespace fedctl::data
