#include "data/detail/tokenizer_node.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "data/detail/file.hpp"

namespace fedctl::data {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kFileBytesMax = std::uint64_t{64} << 20;
constexpr std::size_t kQuotedBytesMax = 200;
constexpr const char* kHint =
    "read are WordPiece with BERT's rules, BPE with ByteLevel as GPT-2's, and BPE with "
    "byte_fallback "
    "as Llama 2's";

const Json& null_json() {
  static const Json null;
  return null;
}

}  // namespace

Json read_json(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path, kFileBytesMax);
  try {
    return Json::parse(bytes.begin(), bytes.end());
  } catch (const Json::parse_error& error) {
    const auto end =
        bytes.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, bytes.size()));
    const auto line = 1 + std::count(bytes.begin(), end, std::uint8_t{'\n'});
    throw DataError(
        path + ':' + std::to_string(line) + ": not JSON at byte " + std::to_string(error.byte),
        "the file may be cut short");
  } catch (const Json::exception& error) {
    throw DataError(path + ": not JSON: " + error.what(), "the file may be damaged");
  }
}

JsonNode::JsonNode(const Json& json, std::string path, std::string key)
    : json_(&json), path_(std::move(path)), key_(std::move(key)) {}

// A file may hold keys and texts of any length.
std::string JsonNode::place() const {
  return path_ + ": " + (key_.empty() ? "the file" : key_.substr(0, kQuotedBytesMax));
}

void JsonNode::refuse(const std::string& what) const {
  throw DataError(place() + ' ' + what.substr(0, kQuotedBytesMax), kHint);
}

void JsonNode::expect(bool is_so, const char* what) const {
  if (!is_so) refuse(std::string("is of type ") + json_->type_name() + ", expected " + what);
}

bool JsonNode::is_null() const { return json_->is_null(); }
bool JsonNode::is_text() const { return json_->is_string(); }
bool JsonNode::has(const std::string& key) const { return !child(key).is_null(); }

JsonNode JsonNode::child(const std::string& key) const {
  expect(json_->is_object(), "object");
  const auto found = json_->find(key);
  return {found == json_->end() ? null_json() : *found, path_,
          key_.empty() ? key : key_ + '.' + key};
}

JsonNode JsonNode::at(const std::string& key) const {
  JsonNode node = child(key);
  if (node.is_null()) node.refuse("is missing");
  return node;
}

std::vector<JsonNode> JsonNode::elements() const {
  expect(json_->is_array(), "array");
  std::vector<JsonNode> nodes;
  nodes.reserve(json_->size());
  for (const Json& element : *json_)
    nodes.emplace_back(element, path_, key_ + '[' + std::to_string(nodes.size()) + ']');
  return nodes;
}

std::string JsonNode::text() const {
  expect(json_->is_string(), "string");
  return json_->get<std::string>();
}

bool JsonNode::flag() const {
  expect(json_->is_boolean(), "boolean");
  return json_->get<bool>();
}

std::int64_t JsonNode::integer() const {
  expect(json_->is_number_integer(), "integer");
  if (json_->is_number_unsigned() &&
      json_->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
    refuse("is " + json_->dump() + ", too large");
  return json_->get<std::int64_t>();
}

bool JsonNode::flag_or(const std::string& key, bool otherwise) const {
  return has(key) ? child(key).flag() : otherwise;
}

std::string JsonNode::text_or(const std::string& key, const std::string& otherwise) const {
  return has(key) ? child(key).text() : otherwise;
}

void JsonNode::add_tokens_to(Vocabulary& vocabulary) const {
  expect(json_->is_object(), "object");
  for (const auto& [token, id] : json_->items()) {
    if (!id.is_number_integer()) JsonNode(id, path_, key_ + '.' + token).integer();  // says so
    vocabulary.add(token, JsonNode(id, path_, key_).integer(), place());
  }
}

void JsonNode::allow(std::initializer_list<const char*> keys) const {
  expect(json_->is_object(), "object");
  for (const auto& [key, value] : json_->items()) {
    const bool known =
        std::any_of(keys.begin(), keys.end(), [&key = key](const char* name) { return key == name; });
    if (!known) child(key).refuse("is not supported");
  }
}

}  // namespace fedctl::data
