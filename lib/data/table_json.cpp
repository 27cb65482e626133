// JSON objects as records. The lines are read by events, not as trees, so that a hostile line costs
// no more memory than its own size.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "data/detail/table_file.hpp"

namespace fedctl::data {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kDepthMax = 64;
constexpr std::size_t kElementsMax = kTableColumnsMax;
constexpr std::size_t kMembersMax = 4096;  // each name is compared with all before it
constexpr std::size_t kDocumentBytesMax = std::size_t{64} << 20;

class Members final : public nlohmann::json_sax<Json> {
 public:
  explicit Members(JsonRecord& record) : record_(record) {}
  std::string fault;

  bool null() override {
    if (depth_ == 0) return refuse("null, expected an object");
    if (depth_ == 1 && list_) ++next_;
    return true;
  }
  bool boolean(bool value) override { return add(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) override { return add(std::to_string(value)); }
  bool number_unsigned(std::uint64_t value) override { return add(std::to_string(value)); }
  bool number_float(double, const std::string& digits) override { return add(digits); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return refuse("not JSON"); }
  bool start_object(std::size_t) override { return open(false); }
  bool start_array(std::size_t) override { return open(true); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (depth_ != 1) return true;
    if (record_.names.size() + record_.nested.size() >= kMembersMax)
      return refuse("more than " + std::to_string(kMembersMax) + " members");
    for (const auto* names : {&record_.names, &record_.nested}) {
      if (std::ranges::find(*names, name) != names->end())
        return refuse('"' + name.substr(0, 80) + "\" stands in it twice");
    }
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const Json::exception& error) override {
    fault = "not JSON, at byte " + std::to_string(byte) + " of it";
    // 316 is the library's number for a text that is not UTF-8, 406 for a number out of range.
    if (std::string_view(error.what()).find("UTF-8") != std::string_view::npos)
      fault = "not UTF-8, at byte " + std::to_string(byte) + " of it";
    if (error.id == 406) fault = "a number that is not finite, at byte " + std::to_string(byte);
    return false;
  }

 private:
  bool refuse(std::string what) {
    fault = std::move(what);
    return false;
  }
  std::string next_name() { return list_ ? std::to_string(next_++) : std::move(key_); }
  bool add(std::string value) {
    if (depth_ == 0) return refuse("not a JSON object");
    if (depth_ > 1) return true;
    if (next_ >= kElementsMax)
      return refuse("more than " + std::to_string(kElementsMax) + " elements");
    record_.names.push_back(next_name());
    record_.values.push_back(std::move(value));
    return true;
  }
  bool open(bool is_list) {
    if (depth_ == 0) list_ = is_list;
    if (depth_ == 1) record_.nested.push_back(next_name());
    return ++depth_ <= kDepthMax || refuse("nested more than 64 deep");
  }
  bool close() {
    --depth_;
    return true;
  }

  JsonRecord& record_;
  std::size_t depth_ = 0, next_ = 0;
  bool list_ = false;
  std::string key_;
};

}  // namespace

std::string read_json_record(std::string_view line, JsonRecord& record) {
  Members members(record);
  Json::sax_parse(line.begin(), line.end(), &members);
  return members.fault;
}

std::vector<std::uint8_t> json_list_as_lines(std::string_view document, const std::string& split,
                                             const std::string& path) {
  if (document.size() > kDocumentBytesMax) {
    throw DataError(path + ": a JSON document of more than 64 MiB",
                    "write it as JSON lines, one object a line, named .jsonl");
  }
  const auto shallow = [&](int depth, Json::parse_event_t, const Json&) {
    if (depth > static_cast<int>(kDepthMax))
      throw DataError(path + ": nested more than 64 deep", "expected a list of flat objects");
    return true;
  };
  Json json;
  try {
    json = Json::parse(document.begin(), document.end(), shallow);
  } catch (const Json::parse_error& error) {
    const auto byte = std::min(document.size(), error.byte);
    const auto line = 1 + std::ranges::count(document.substr(0, byte), '\n');
    throw DataError(path + ':' + std::to_string(line) + ": not JSON, at byte " +
                        std::to_string(byte) + " of the file",
                    "JSON lines are named .jsonl");
  }
  const Json* list = &json;
  if (!split.empty()) {
    if (!json.is_object() || !json.contains(split)) {
      std::vector<std::string> keys;
      if (json.is_object())
        for (const auto& [key, value] : json.items()) keys.push_back(key);
      throw DataError(path + ": no list under \"" + split + '"', column_hint(split, keys));
    }
    list = &json[split];
  }
  if (!list->is_array() || list->empty()) {
    throw DataError(path + ": not a list of records",
                    json.is_object() ? "data.split names the key the list stands under"
                                     : "expected a list of objects");
  }
  std::vector<std::uint8_t> lines;
  for (const Json& element : *list) {
    const std::string line = element.dump();
    lines.insert(lines.end(), line.begin(), line.end());
    lines.push_back('\n');
  }
  return lines;
}

}  // namespace fedctl::data
