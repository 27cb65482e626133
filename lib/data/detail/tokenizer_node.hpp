// A place in a JSON file of a tokenizer: every look checks the type, and a DataError names the file
// and the key.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/detail/tokenizer_vocabulary.hpp"

namespace fedctl::data {

// Throws DataError with the line if the file is absent, too large, or not JSON.
nlohmann::json read_json(const std::string& path);

class JsonNode {
 public:
  // `json` outlives the node. `key` is "" at the top.
  JsonNode(const nlohmann::json& json, std::string path, std::string key = "");

  bool is_null() const;
  bool is_text() const;
  bool has(const std::string& key) const;        // there and not null
  JsonNode at(const std::string& key) const;     // throws if absent
  JsonNode child(const std::string& key) const;  // the null node if absent
  std::vector<JsonNode> elements() const;        // of a list
  std::string text() const;
  bool flag() const;
  std::int64_t integer() const;
  bool flag_or(const std::string& key, bool otherwise) const;
  std::string text_or(const std::string& key, const std::string& otherwise) const;
  std::string place() const;                         // "file: key"
  void add_tokens_to(Vocabulary& vocabulary) const;  // of an object token -> number

  // Throws DataError for a key that is not one of these.
  void allow(std::initializer_list<const char*> keys) const;
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  void expect(bool is_so, const char* what) const;

  const nlohmann::json* json_;
  std::string path_, key_;
};

}  // namespace fedctl::data
