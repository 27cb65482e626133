#include "run/spool.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "journal/append.hpp"
#include "run/run_directory.hpp"
#include "wire/frame.hpp"

namespace fedctl::run {
namespace {

using talk::Message;

using journal::fail;

constexpr std::size_t kPendingBytesMax = std::size_t{256} << 10;  // written at once

struct OpenFile {
  OpenFile(int file_, const std::string& path) : file(file_) {
    if (file < 0) fail(path, "open");
  }
  ~OpenFile() { ::close(file); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  const int file;
};

SpoolRecords records_of(const std::shared_ptr<OpenFile>& open, const std::string& path) {
  struct ::stat status {};
  if (::fstat(open->file, &status) != 0) fail(path, "look at");
  const auto read = [open, path](std::uint64_t at, std::span<std::byte> out) {
    read_all(open->file, path, at, out);
  };
  return {read, static_cast<std::uint64_t>(status.st_size), path};
}

talk::Envelope envelope_of(const wire::Expect& record, const std::string& what) {
  const talk::PeerId from = record.integer("from", talk::kServer, limits::kClientsMax);
  if (what == "joined") {
    return {from, 0, talk::Joined{record.integer("session", INT64_MIN, INT64_MAX)}};
  }
  if (what == "lost") return {from, 0, talk::Lost{record.text("reason")}};
  throw ProtocolError("a record of \"" + what + "\"");
}

}  // namespace

SpoolRecords::SpoolRecords(ReadAt read, std::uint64_t size, std::string path)
    : read_(std::move(read)), size_(size), path_(std::move(path)) {}

SpoolRecords SpoolRecords::in(const std::string& path) {
  return records_of(std::make_shared<OpenFile>(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path),
                    path);
}

void SpoolRecords::damaged(const std::string& what) const {
  throw RunDirectoryError(path_ + ": damaged at byte " + std::to_string(at_) + ": " + what,
                          "the checkpoint is older and not touched by this: remove the file, and "
                          "--resume asks the clients of the open round again");
}

// A file may have grown before its bytes were written.
bool SpoolRecords::only_zeros_from(std::uint64_t at) const {
  std::array<std::byte, 4096> piece;
  while (at < size_) {
    const auto part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), size_ - at));
    read_(at, part);
    if (std::ranges::any_of(part, [](std::byte byte) { return byte != std::byte{0}; }))
      return false;
    at += part.size();
  }
  return true;
}

// nullopt at the end, and at a frame that goes beyond it or whose checksum is wrong although
// nothing follows: it was being written.
std::optional<Message> SpoolRecords::frame(std::uint64_t& at, wire::Header& header) {
  const std::uint64_t left = size_ - at;
  if (left < wire::kHeaderBytes) return std::nullopt;
  buffer_.resize(wire::kHeaderBytes);
  read_(at, buffer_);
  if (buffer_[0] == std::byte{0} && only_zeros_from(at)) return std::nullopt;
  try {
    header =
        wire::decode_header(std::span(buffer_).first<wire::kHeaderBytes>(), limits::kFrameBytesMax);
  } catch (const WireError& error) {
    damaged(error.what());
  }
  const std::size_t size = wire::kHeaderBytes + header.body_bytes;
  if (left < size) return std::nullopt;
  buffer_.resize(size);
  read_(at, buffer_);
  try {
    Message message = wire::decode_frame(buffer_, header);
    at += size;
    return message;
  } catch (const WireError& error) {
    if (left == size) return std::nullopt;
    damaged(error.what());
  }
}

std::optional<Received> SpoolRecords::next() {
  std::uint64_t at = at_;
  wire::Header header;
  std::optional<Message> head = frame(at, header);
  if (!head) return std::nullopt;
  Received received;
  try {
    const wire::Expect record(*head, "record");
    const std::string what = record.text("what");
    received.at = Duration(record.integer("at", 0, INT64_MAX));
    if (what == "message") {
      std::optional<Message> message = frame(at, header);
      if (!message) return std::nullopt;
      const talk::PeerId from = record.integer("from", 0, limits::kClientsMax);
      received.envelope = talk::Envelope{from, header.exchange, std::move(*message)};
    } else if (what != "passed") {
      received.envelope = envelope_of(record, what);
    }
  } catch (const ProtocolError& error) {
    damaged(error.what());
  }
  at_ = at;
  return received;
}

std::uint64_t SpoolRecords::skip_all() {
  while (next()) {
  }
  return at_;
}

Spool::Spool(std::string path) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) fail(path_, "open");
  try {
    SpoolRecords found = records();
    const std::uint64_t whole = found.skip_all();
    if (found.more() && ::ftruncate(file_, static_cast<off_t>(whole)) != 0) {
      fail(path_, "cut the torn end off");
    }
    sync_folder_of(path_);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

Spool::~Spool() { ::close(file_); }

SpoolRecords Spool::records() {
  flush();
  return records_of(std::make_shared<OpenFile>(::dup(file_), path_), path_);
}

void Spool::append(const talk::Envelope* received, Duration at) {
  Message record = Message("record").with("at", std::int64_t{at.count()});
  const Message* message = nullptr;
  if (received == nullptr) {
    record.scalars.emplace("what", std::string("passed"));
  } else {
    record.scalars.emplace("from", received->from);
    if ((message = std::get_if<Message>(&received->event)) != nullptr) {
      record.scalars.emplace("what", std::string("message"));
    } else if (const auto* joined = std::get_if<talk::Joined>(&received->event)) {
      record.scalars.emplace("what", std::string("joined"));
      record.scalars.emplace("session", joined->session);
    } else {
      const auto* lost = std::get_if<talk::Lost>(&received->event);
      FEDCTL_ASSERT(lost != nullptr);
      record.scalars.emplace("what", std::string("lost"));
      record.scalars.emplace("reason", lost->reason);
    }
  }
  ByteWriter writer(pending_);
  writer.raw(wire::encode_frame(wire::FrameType::control, 0, record));
  if (message != nullptr) {
    const Bytes frame = wire::encode_frame(wire::FrameType::data, received->exchange, *message);
    if (frame.size() > kPendingBytesMax) {
      flush();
      write_all(file_, path_, frame);
    } else {
      writer.raw(frame);
    }
  }
  if (pending_.size() > kPendingBytesMax) flush();
}

void Spool::flush() {
  write_all(file_, path_, pending_);
  pending_.clear();
}

void Spool::sync() {
  flush();
  if (::fdatasync(file_) != 0) fail(path_, "sync");
}

}  // namespace fedctl::run
