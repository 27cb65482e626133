// The tokens of a tokenizer, read from a file that nobody has checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/digest.hpp"

namespace fedctl::data {

class Vocabulary {
 public:
  // `place` is the file, and the line or key in it, for the message of a DataError: the token is
  // empty, too long or not UTF-8, or the token or its number is taken or out of range.
  void add(const std::string& token, std::int64_t id, const std::string& place);
  // A special token is never found in a text. Precondition: id is a token's.
  void mark_special(std::int64_t id);
  // Throws DataError if a number below size() has no token.
  void check_complete(const std::string& path) const;

  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
  const std::string& token(std::int64_t id) const { return tokens_[static_cast<std::size_t>(id)]; }
  bool is_special(std::int64_t id) const { return special_[static_cast<std::size_t>(id)]; }
  bool contains(std::int64_t id) const { return id >= 0 && id < size(); }
  std::int64_t id_of(std::string_view token) const;        // -1 if there is none
  std::int64_t plain_id_of(std::string_view token) const;  // the same, but not of special tokens
  // Throws DataError naming the token if it is missing.
  std::int64_t required(const std::string& token, const std::string& path) const;

  void add_to(Digest& digest) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };

  std::vector<std::string> tokens_;  // "" where none was added yet
  std::vector<bool> special_;
  std::unordered_map<std::string, std::int64_t, Hash, std::equal_to<>> ids_;
};

}  // namespace fedctl::data
