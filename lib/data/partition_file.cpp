// file: an explicit deal: one client number a line, line i for training row i (from 0); or a JSON
// object, {"0": [4, 7], "1": [0]}, of each client's rows. `fedctl plan --write-partition` writes
// both.
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 30;

struct FileOptions final : config::Options {
  std::string path;
  void fields(config::Fields& fields) override {
    fields.text("path", path, {.kind = "a file", .required = true},
                "one client number a line, a line a training row; or JSON, {\"0\": [rows], ...}");
  }
};

using Lists = std::vector<std::vector<std::size_t>>;

// Takes the JSON event by event, so that a large file costs no tree. The parser calls its methods
// by these names.
class JsonLists final : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonLists(const std::string& path, std::size_t clients, std::size_t rows)
      : path_(path), lists_(clients), seen_(clients), taken_(rows) {}

  Lists take() {
    for (auto& list : lists_) std::ranges::sort(list);
    return std::move(lists_);
  }

  bool key(string_t& name) override {
    client_ = 0;
    const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), client_);
    if (error != std::errc{} || stop != name.data() + name.size() || client_ >= lists_.size()) {
      fail("key \"" + name.substr(0, 32) + "\", expected a client number from 0 to " +
           std::to_string(lists_.size() - 1));
    }
    if (seen_[client_]) fail("client " + name + " stands there twice");
    seen_[client_] = true;
    return true;
  }
  bool number_unsigned(number_unsigned_t row) override {
    if (depth_ != 2) refuse();
    const std::string item = "client " + std::to_string(client_) + ", item " +
                             std::to_string(lists_[client_].size()) + ": row " +
                             std::to_string(row);
    if (row >= taken_.size())
      fail(item + ", the data have " + std::to_string(taken_.size()) + " training rows");
    if (taken_[row]) fail(item + " has been dealt already");
    taken_[row] = true;
    lists_[client_].push_back(row);
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_++ != 0) refuse();
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_++ != 1) refuse();
    return true;
  }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool null() override { refuse(); }
  bool boolean(bool) override { refuse(); }
  bool number_integer(number_integer_t) override { refuse(); }
  bool number_float(number_float_t, const string_t&) override { refuse(); }
  bool string(string_t&) override { refuse(); }
  bool binary(binary_t&) override { refuse(); }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::json::exception&) override {
    fail("byte " + std::to_string(at) + ": not JSON");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(path_ + ": " + what, "{\"0\": [rows of client 0], \"1\": [...]}");
  }
  [[noreturn]] void refuse() const { fail("expected an object of lists of row numbers"); }

  const std::string& path_;
  Lists lists_;
  std::vector<bool> seen_, taken_;
  std::size_t client_ = 0;
  int depth_ = 0;
};

Lists from_lines(const std::string& path, std::string_view text, std::size_t clients,
                 std::size_t rows) {
  Lists lists(clients);
  std::size_t row = 0;
  for (std::size_t at = 0; at < text.size(); ++row) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    at = end + 1;
    std::size_t client = 0;
    const auto [stop, error] = std::from_chars(line.data(), line.data() + line.size(), client);
    if (error != std::errc{} || stop != line.data() + line.size() || client >= clients) {
      throw DataError(path + ':' + std::to_string(row + 1) +
                      ": expected a client number from 0 to " + std::to_string(clients - 1));
    }
    if (row >= rows) {
      throw DataError(path + ':' + std::to_string(row + 1) + ": the data have " +
                      std::to_string(rows) + " training rows, this line is one too many");
    }
    lists[client].push_back(row);
  }
  if (row != rows) {
    throw DataError(path + ": has " + std::to_string(row) + " lines, the data " +
                    std::to_string(rows) + " training rows");
  }
  return lists;
}

Lists split(const config::Options& given, const Dataset& train, std::size_t clients, Rng) {
  const std::string& path = dynamic_cast<const FileOptions&>(given).path;
  const std::vector<std::uint8_t> bytes = read_file(path, kFileBytesMax);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{')
    return from_lines(path, text, clients, train.size());
  JsonLists lists(path, clients, train.size());
  nlohmann::json::sax_parse(text, &lists);
  return lists.take();
}

}  // namespace

PartitionerEntry partition_file();
PartitionerEntry partition_file() {
  return {{"file", "explicit: one client number a line, or JSON lists of rows", "",
           [] { return std::make_unique<FileOptions>(); }},
          split};
}

}  // namespace fedctl::data
