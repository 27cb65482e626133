#include "run/client_store.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "journal/append.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kHeadBytes = 16;
// A file is copied when it is larger than this and more than half of it is superseded.
constexpr std::uint64_t kCompactBytes = std::uint64_t{64} << 20;

using journal::fail;

[[noreturn]] void damaged(const std::string& path, const std::string& what) {
  throw RunDirectoryError(path + ": damaged: " + what, "--fresh starts the run anew");
}

}  // namespace

class ClientStore::File {
 public:
  explicit File(std::string path) : path_(std::move(path)) {
    create_folder(fs::path(path_).parent_path().string());
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file_ < 0) fail(path_, "open");
    const off_t size = ::lseek(file_, 0, SEEK_END);
    if (size < 0) fail(path_, "read");
    end_ = static_cast<std::uint64_t>(size);
    sync_folder_of(path_);
  }
  ~File() {
    if (file_ >= 0) ::close(file_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  std::uint64_t end() const { return end_; }

  Bytes read(std::uint64_t at, std::uint64_t count) const {
    if (at > end_ || count > end_ - at) damaged(path_, "it ends early");
    Bytes bytes(count);
    read_all(file_, path_, at, bytes);
    return bytes;
  }
  // Returns where the state stands.
  Place append(std::int64_t client, ByteView state) {
    Bytes record;
    record.reserve(kHeadBytes + state.size());
    ByteWriter writer(record);
    writer.number(client);
    writer.number(static_cast<std::uint64_t>(state.size()));
    writer.raw(state);
    write_all(file_, path_, record);
    const Place place{end_ + kHeadBytes, state.size()};
    end_ += record.size();
    return place;
  }
  void cut(std::uint64_t length) {
    if (length > end_) damaged(path_, "it ends early");
    if (::ftruncate(file_, static_cast<off_t>(length)) != 0) fail(path_, "shorten");
    end_ = length;
  }
  void sync() const {
    if (::fdatasync(file_) != 0) fail(path_, "sync");
  }

 private:
  std::string path_;
  int file_ = -1;
  std::uint64_t end_ = 0;
};

ClientStore::ClientStore(std::string folder) : folder_(std::move(folder)) {}
ClientStore::~ClientStore() = default;

std::string ClientStore::path(std::int64_t generation) const {
  return folder_ + "/states-" + std::to_string(generation);
}

std::uint64_t ClientStore::file_bytes() const { return file_ ? file_->end() : 0; }

Parts ClientStore::get(std::int64_t client) const {
  Parts parts;
  Bytes bytes;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = places_.find(client);
    if (found == places_.end()) return parts;
    bytes = file_->read(found->second.at, found->second.bytes);
  }
  try {
    decode_parts(bytes, parts);
  } catch (const WireError& error) {
    damaged(path(generation_), "client " + std::to_string(client) + ": " + error.what());
  }
  return parts;
}

void ClientStore::put(std::int64_t client, const Parts& parts) {
  Bytes state;
  if (!parts.empty()) state = encode_parts(wire::Message("client"), parts);
  const std::scoped_lock lock(mutex_);
  const auto before = places_.find(client);
  if (state.empty() && before == places_.end()) return;
  if (!file_) {
    file_ = std::make_unique<File>(path(generation_));
    file_->cut(0);
  }
  if (before != places_.end()) {
    live_ -= kHeadBytes + before->second.bytes;
    places_.erase(before);
  }
  const Place place = file_->append(client, state);
  if (state.empty()) return;
  places_.emplace(client, place);
  live_ += kHeadBytes + place.bytes;
}

void ClientStore::compact() {
  auto next = std::make_unique<File>(path(generation_ + 1));
  next->cut(0);
  for (auto& [client, place] : places_) {
    place = next->append(client, file_->read(place.at, place.bytes));
  }
  file_ = std::move(next);
  ++generation_;
  saves_ = 0;
}

wire::Message ClientStore::save() {
  const std::scoped_lock lock(mutex_);
  if (file_ && file_->end() > kCompactBytes && live_ < file_->end() / 2) compact();
  if (file_) file_->sync();
  if (saves_++ == static_cast<std::int64_t>(kGenerations)) fs::remove(path(generation_ - 1));
  return wire::Message("clients")
      .with("generation", generation_)
      .with("length", static_cast<std::int64_t>(file_bytes()));
}

void ClientStore::load(const wire::Message& saved) {
  const wire::Expect fields(saved, "clients");
  generation_ = fields.integer("generation", 0, INT64_MAX - 1);
  const auto length = static_cast<std::uint64_t>(fields.integer("length", 0, INT64_MAX));
  if (length == 0) return;
  if (!fs::exists(path(generation_))) damaged(path(generation_), "it is gone");
  file_ = std::make_unique<File>(path(generation_));
  file_->cut(length);
  for (std::uint64_t at = 0; at < length;) {
    const Bytes head = file_->read(at, kHeadBytes);
    ByteReader reader(head);
    const auto client = reader.number<std::int64_t>();
    const auto bytes = reader.number<std::uint64_t>();
    at += kHeadBytes;
    if (bytes > length - at) damaged(file_->path(), "a state goes beyond its end");
    places_.erase(client);
    if (bytes > 0) places_.emplace(client, Place{at, bytes});
    at += bytes;
  }
  for (const auto& [client, place] : places_) live_ += kHeadBytes + place.bytes;
}

}  // namespace fedctl::run
