#include "journal/journal.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "journal/append.hpp"
#include "journal/chain.hpp"

namespace fedctl::journal {
namespace {

using Json = nlohmann::ordered_json;

// The first `bytes_max` bytes, or a few less: never a part of a UTF-8 sequence.
std::string cut(const std::string& text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

Json to_json(const Object& object, std::size_t text_bytes_max);

Json to_json(const Value& value, std::size_t text_bytes_max) {
  return std::visit(
      [&](const auto& item) -> Json {
        using T = std::decay_t<decltype(item)>;
        if constexpr (std::is_same_v<T, std::shared_ptr<const Object>>) {
          return to_json(*item, text_bytes_max);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return cut(item, text_bytes_max);
        } else if constexpr (std::is_same_v<T, double>) {
          return std::isfinite(item) ? Json(item) : Json(nullptr);
        } else {
          return item;
        }
      },
      value);
}

Json to_json(const Object& object, std::size_t text_bytes_max) {
  Json json = Json::object();
  for (const auto& [key, value] : object.fields()) {
    json[key] = to_json(value, text_bytes_max);
    const double* real = std::get_if<double>(&value);
    if (real != nullptr && !std::isfinite(*real)) {
      json[key + "_nonfinite"] = std::isnan(*real) ? "nan" : (*real > 0 ? "inf" : "-inf");
    }
  }
  return json;
}

// Cuts off a last line that was not written to its end.
void repair_tail(const std::string& path, int file) {
  const off_t size = ::lseek(file, 0, SEEK_END);
  if (size < 0) fail(path, "seek");
  std::array<char, 1 << 16> block;
  off_t keep = size;  // bytes up to and with the last newline, searched backwards
  while (keep > 0) {
    const off_t start = std::max<off_t>(0, keep - static_cast<off_t>(block.size()));
    const auto wanted = static_cast<std::size_t>(keep - start);
    if (::pread(file, block.data(), wanted, start) != static_cast<ssize_t>(wanted)) {
      fail(path, "read");
    }
    const std::size_t newline = std::string_view(block.data(), wanted).rfind('\n');
    keep = start;
    if (newline == std::string_view::npos) continue;
    keep += static_cast<off_t>(newline) + 1;
    break;
  }
  if (keep != size && ::ftruncate(file, keep) != 0) fail(path, "cut the torn last line");
}

// Calls use(json, line) for every whole line.
template <class Use>
void for_each_line(const std::string& path, std::istream& in, const Use& use) {
  std::string line;
  for (std::size_t number = 1; std::getline(in, line) && !in.eof(); ++number) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("event") || !json["event"].is_string()) {
      throw RunDirectoryError(path + ':' + std::to_string(number) + ": not a journal line",
                              "the file was damaged or edited; --fresh starts anew");
    }
    use(json, line);
  }
}

}  // namespace

Object& Object::set(std::string_view key, Value value) {
  fields_.emplace_back(key, std::move(value));
  return *this;
}

Journal::Journal(std::string path, Identity identity, std::function<std::int64_t()> now_ms)
    : path_(std::move(path)), identity_(std::move(identity)), now_ms_(std::move(now_ms)) {
  if (path_.empty()) return;
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (file_ < 0) fail(path_, "open");
  repair_tail(path_, file_);
  chain_ = std::make_unique<Chain>(path_);
}

Journal::~Journal() {
  if (file_ >= 0) ::close(file_);
}

std::string Journal::format(std::optional<std::int64_t> round, const Event& event) const {
  const std::optional<std::int64_t> peer = event.peer() ? event.peer() : identity_.peer;
  Json head = Json::object();
  head["t_ms"] = now_ms_();
  head["run"] = identity_.run;
  head["role"] = identity_.role;
  head["peer"] = peer ? Json(*peer) : Json(nullptr);
  head["round"] = round ? Json(*round) : Json(nullptr);
  head["event"] = event.name();
  std::string line;
  for (std::size_t text_max = limits::kJournalLineBytesMax;; text_max /= 4) {
    Json json = head;
    json.update(to_json(event.object(), text_max));
    line = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (line.size() <= limits::kJournalLineBytesMax || text_max == 0) break;
  }
  return line;
}

void Journal::append(const std::string& line) {
  if (file_ < 0) return;
  const std::scoped_lock lock(mutex_);
  append_whole(file_, path_, line + '\n');
  chain_->add(line);
}

std::string Journal::write(std::optional<std::int64_t> round, const Event& event) {
  std::string line = format(round, event);
  append(line);
  return line;
}

void Journal::sync() {
  if (file_ >= 0 && ::fsync(file_) != 0) fail(path_, "sync");
}

std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw RunDirectoryError(path + ": no such journal", "give the folder of a run");
  std::vector<std::string> lines;
  for_each_line(path, in, [&](const Json&, const std::string& line) { lines.push_back(line); });
  return lines;
}

std::optional<std::int64_t> last_round(const std::string& path) {
  std::ifstream in(path);
  std::optional<std::int64_t> last;
  for_each_line(path, in, [&](const Json& json, const std::string&) {
    if (json["event"] != "round" || !json.contains("round")) return;
    if (json["round"].is_number_integer()) last = json["round"].get<std::int64_t>();
  });
  return last;
}

}  // namespace fedctl::journal
