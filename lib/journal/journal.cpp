#include "journal/journal.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "base/limits.hpp"

namespace fedctl::journal {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Object& object, std::size_t text_bytes_max);

Json to_json(const Value& value, std::size_t text_bytes_max) {
  return std::visit(
      [&](const auto& item) -> Json {
        using T = std::decay_t<decltype(item)>;
        if constexpr (std::is_same_v<T, std::shared_ptr<const Object>>) {
          return to_json(*item, text_bytes_max);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return item.size() <= text_bytes_max ? item : item.substr(0, text_bytes_max) + "...";
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

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw RunDirectoryError(path + ": cannot " + what + ": " + std::strerror(errno),
                          "check permissions and free space");
}

// Cuts off a last line that was not written to its end.
void repair_tail(const std::string& path, int file) {
  const off_t size = ::lseek(file, 0, SEEK_END);
  off_t keep = size;
  char byte = 0;
  while (keep > 0 && ::pread(file, &byte, 1, keep - 1) == 1 && byte != '\n') --keep;
  if (keep != size && ::ftruncate(file, keep) != 0) fail(path, "cut the torn last line");
}

}  // namespace

Journal::Journal(std::string path, Identity identity, std::function<std::int64_t()> now_ms)
    : path_(std::move(path)), identity_(std::move(identity)), now_ms_(std::move(now_ms)) {
  if (path_.empty()) return;
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) fail(path_, "open");
  repair_tail(path_, file_);
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
  for (std::size_t text_max = limits::kJournalLineBytesMax; ; text_max /= 4) {
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
  const std::string text = line + '\n';
  std::size_t at = 0;
  while (at < text.size()) {
    const ssize_t count = ::write(file_, text.data() + at, text.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path_, "write");
    at += static_cast<std::size_t>(count);
  }
}

std::string Journal::write(std::optional<std::int64_t> round, const Event& event) {
  std::string line = format(round, event);
  append(line);
  return line;
}

void Journal::sync() {
  if (file_ >= 0 && ::fsync(file_) != 0) fail(path_, "sync");
}

std::optional<std::int64_t> last_round(const std::string& path) {
  std::ifstream in(path);
  std::optional<std::int64_t> last;
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (in.eof()) break;  // torn: no newline
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("event") || !json["event"].is_string()) {
      throw RunDirectoryError(path + ':' + std::to_string(number) + ": not a journal line",
                              "the file was damaged or edited; --fresh starts anew");
    }
    if (json["event"] == "round" && json.contains("round") && json["round"].is_number_integer()) {
      last = json["round"].get<std::int64_t>();
    }
  }
  return last;
}

}  // namespace fedctl::journal
