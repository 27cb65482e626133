#include "run/run_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/limits.hpp"
#include "journal/journal.hpp"
#include "wire/frame.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw RunDirectoryError(path + ": cannot " + what + ": " + std::strerror(errno),
                          "check permissions and free space, or choose another --run-dir");
}

std::vector<fs::path> checkpoints(const std::string& folder) {
  std::vector<fs::path> files;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder, absent)) {
    if (entry.path().filename().string().starts_with("round-") &&
        entry.path().extension() != ".tmp") {
      files.push_back(entry.path());
    }
  }
  std::ranges::sort(files);
  return files;
}

// Makes the folder.
std::string lock_path(const std::string& folder) {
  create_folder(folder);
  return folder + "/lock";
}

}  // namespace

void create_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    throw RunDirectoryError(path + ": cannot create: " + error.message(),
                            "choose another --run-dir");
  }
}

void write_all(int file, const std::string& path, ByteView bytes) {
  const auto* data = reinterpret_cast<const char*>(bytes.data());
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t count = ::write(file, data + at, bytes.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "write");
    at += static_cast<std::size_t>(count);
  }
}

void read_all(int file, const std::string& path, std::uint64_t at, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t count = ::pread(file, out.data(), out.size(), static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "read");
    if (count == 0) throw RunDirectoryError(path + ": has become shorter");
    at += static_cast<std::uint64_t>(count);
    out = out.subspan(static_cast<std::size_t>(count));
  }
}

void write_atomically(const std::string& path, ByteView bytes) { replace_file(path, bytes); }

std::vector<std::string> files_of(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && name != kSumsName && entry.path().extension() != ".tmp") {
      names.push_back(name);
    }
  }
  std::ranges::sort(names);
  return names;
}

Bytes read_file(const std::string& path) {
  std::error_code unknown;
  if (fs::exists(path, unknown) && !fs::is_regular_file(path, unknown)) {
    throw RunDirectoryError(path + ": is no plain file", "what is it doing there?");
  }
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) fail(path, "open");
  Bytes bytes(static_cast<std::size_t>(in.tellg()));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!in) fail(path, "read");
  return bytes;
}

Bytes encode_parts(const wire::Message& state, const Parts& parts) {
  Bytes bytes = wire::encode_frame(wire::FrameType::control, 0, state);
  ByteWriter(bytes).raw(encode_parts(parts));
  return bytes;
}

// What stands behind the state.
Bytes encode_parts(const Parts& parts) {
  Bytes bytes;
  const auto append = [&bytes](const wire::Message& message) {
    ByteWriter(bytes).raw(wire::encode_frame(wire::FrameType::control, 0, message));
  };
  for (const auto& [name, message] : parts) {
    append(wire::Message("part").with("name", name));
    append(message);
  }
  append(wire::Message("whole").with("parts", static_cast<std::int64_t>(parts.size())));
  return bytes;
}

wire::Message decode_parts(ByteView bytes, Parts& parts) {
  const auto next = [&bytes] {
    if (bytes.size() < wire::kHeaderBytes) throw WireError("it ends early");
    const std::size_t size =
        wire::kHeaderBytes +
        wire::decode_header(bytes.first<wire::kHeaderBytes>(), limits::kFrameBytesMax).body_bytes;
    if (bytes.size() < size) throw WireError("it ends early");
    wire::Header header;
    wire::Message message = wire::decode_frame(bytes.first(size), header);
    bytes = bytes.subspan(size);
    return message;
  };
  wire::Message state = next();
  while (true) {
    wire::Message label = next();
    if (label.kind == "whole") break;
    try {
      const std::string name = wire::Expect(label, "part").text("name");
      if (!parts.emplace(name, next()).second) throw WireError("two parts \"" + name + "\"");
    } catch (const ProtocolError& error) {
      throw WireError(error.what());
    }
  }
  if (!bytes.empty()) throw WireError("something is behind its end");
  return state;
}

std::string absolute_path(const std::string& path) {
  return fs::absolute(path).lexically_normal().string();
}

std::string round_name(std::int64_t round) {
  std::string number = std::to_string(round);
  number.insert(0, 8 - std::min<std::size_t>(8, number.size()), '0');
  return "round-" + number;
}

Tensor tensor_of(const std::map<std::int64_t, std::int64_t>& pairs) {
  std::vector<std::int64_t> rows;
  for (const auto& [key, value] : pairs) rows.insert(rows.end(), {key, value});
  return Tensor::of(rows, {static_cast<std::int64_t>(pairs.size()), 2});
}

std::map<std::int64_t, std::int64_t> pairs_of(const wire::Message& message,
                                              const std::string& name) {
  const auto found = message.tensors.find(name);
  if (found == message.tensors.end() || found->second.dtype != DType::i64 ||
      found->second.shape.size() != 2 || found->second.shape[1] != 2) {
    throw WireError("\"" + message.kind + "\" has no pairs \"" + name + "\"");
  }
  const auto rows = found->second.i64();
  std::map<std::int64_t, std::int64_t> pairs;
  for (std::size_t i = 0; i < rows.size(); i += 2) pairs[rows[i]] = rows[i + 1];
  return pairs;
}

RunDirectory::RunDirectory(std::string path, Start start)
    : path_(std::move(path)), lock_(lock_path(path_)) {
  if (!lock_.open()) fail(file("lock"), "create");
  if (!lock_.held()) {
    throw RunDirectoryError(path_ + ": another fedctl is running here",
                            "wait for it, stop it, or choose another --run-dir");
  }
  const bool present = holds_run();
  if (present && start == Start::create) {
    throw ConfigError(path_ + ": holds a run already",
                      "--resume goes on with it, --fresh discards it, --run-dir goes elsewhere");
  }
  if (start == Start::resume && !present && !fs::exists(file("checkpoint"))) {
    throw ConfigError(path_ + ": no run to resume", "leave out --resume to start one");
  }
  // A run that was killed before round 0 was evaluated has nothing to go on from, nor to lose.
  resumed_ = start == Start::resume && holds_rounds();
  if (present && !resumed_) discard();
  if (!resumed_) fs::remove(file("journal.chain"));  // a journal gone by itself
  create_folder(file("checkpoint"));
  create_folder(file("spool"));
}

FileLock::FileLock(const std::string& path)
    : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644)),
      held_(file_ >= 0 && ::flock(file_, LOCK_EX | LOCK_NB) == 0) {}

FileLock::~FileLock() {
  if (file_ >= 0) ::close(file_);
}

bool RunDirectory::holds_run() const { return fs::exists(file("journal.jsonl")); }

bool RunDirectory::holds_rounds() const {
  return !checkpoints(file("checkpoint")).empty() ||
         (holds_run() && journal::last_round(file("journal.jsonl")).has_value());
}

void RunDirectory::discard() const {
  for (const char* name : {"experiment.yaml", "journal.jsonl", "journal.chain", "checkpoint",
                           "spool", "clients", "adapter"}) {
    fs::remove_all(file(name));
  }
}

void RunDirectory::write(const std::string& name, const std::string& text) const {
  write_atomically(file(name), as_bytes_of(std::string_view(text)));
}

void RunDirectory::save_checkpoint(std::int64_t round, const wire::Message& state,
                                   const Parts& parts) const {
  const Bytes head = wire::encode_frame(wire::FrameType::control, 0, state);
  const Bytes rest = encode_parts(parts);
  replace_file(file("checkpoint/" + round_name(round)), std::array<ByteView, 2>{head, rest});
  std::vector<fs::path> files = checkpoints(file("checkpoint"));
  for (std::size_t i = 0; i + kGenerations < files.size(); ++i) fs::remove(files[i]);
}

std::optional<RunDirectory::Checkpoint> RunDirectory::load_checkpoint() const {
  const std::vector<fs::path> files = checkpoints(file("checkpoint"));
  std::string problem;
  for (auto at = files.rbegin(); at != files.rend(); ++at) {
    try {
      Checkpoint found{wire::Message(""), {}};
      found.state = decode_parts(read_file(at->string()), found.parts);
      return found;
    } catch (const WireError& error) {
      problem = at->string() + ": " + error.what();
    }
  }
  if (!files.empty()) {
    throw RunDirectoryError("no checkpoint is whole: " + problem, "--fresh starts anew");
  }
  return std::nullopt;
}

}  // namespace fedctl::run
