#include "run/spool.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

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

// Frames from a buffer. nullopt at its end, and at a frame that goes beyond it or whose checksum is
// wrong although nothing follows: it was being written.
class Frames {
 public:
  Frames(ByteView bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  std::optional<Message> next(wire::Header& header) {
    const ByteView left = bytes_.subspan(at_);
    if (left.size() < wire::kHeaderBytes) return std::nullopt;
    // A file may have grown before its bytes were written.
    if (std::ranges::all_of(left, [](std::byte byte) { return byte == std::byte{0}; })) {
      return std::nullopt;
    }
    try {
      header = wire::decode_header(left.first<wire::kHeaderBytes>(), limits::kFrameBytesMax);
    } catch (const WireError& error) {
      damaged(error.what());
    }
    const std::size_t size = wire::kHeaderBytes + header.body_bytes;
    if (left.size() < size) return std::nullopt;
    try {
      Message message = wire::decode_frame(left.first(size), header);
      at_ += size;
      return message;
    } catch (const WireError& error) {
      if (left.size() == size) return std::nullopt;
      damaged(error.what());
    }
  }
  std::size_t at() const { return at_; }
  [[noreturn]] void damaged(const std::string& what) const {
    throw RunDirectoryError(path_ + ": damaged at byte " + std::to_string(at_) + ": " + what,
                            "the checkpoint is older and not touched by this: remove the file, and "
                            "--resume asks the clients of the open round again");
  }

 private:
  ByteView bytes_;
  const std::string& path_;
  std::size_t at_ = 0;
};

talk::Envelope envelope_of(const wire::Expect& record, const std::string& what) {
  const talk::PeerId from = record.integer("from", talk::kServer, limits::kClientsMax);
  if (what == "joined") {
    return {from, 0, talk::Joined{record.integer("session", INT64_MIN, INT64_MAX)}};
  }
  if (what == "lost") return {from, 0, talk::Lost{record.text("reason")}};
  throw ProtocolError("a record of \"" + what + "\"");
}

}  // namespace

SpoolContent parse_spool(ByteView bytes, const std::string& path) {
  Frames frames(bytes, path);
  SpoolContent content;
  wire::Header header;
  while (std::optional<Message> frame = frames.next(header)) {
    try {
      const wire::Expect record(*frame, "record");
      const std::string what = record.text("what");
      const Duration at(record.integer("at", 0, INT64_MAX));
      if (what == "passed") {
        content.found.push_back({std::nullopt, at});
      } else if (what == "message") {
        std::optional<Message> message = frames.next(header);
        if (!message) break;
        const talk::PeerId from = record.integer("from", 0, limits::kClientsMax);
        content.found.push_back({talk::Envelope{from, header.exchange, std::move(*message)}, at});
      } else {
        content.found.push_back({envelope_of(record, what), at});
      }
    } catch (const ProtocolError& error) {
      frames.damaged(error.what());
    }
    content.whole = frames.at();
  }
  return content;
}

Spool::Spool(std::string path) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) fail(path_, "open");
  try {
    const Bytes bytes = read_file(path_);
    SpoolContent content = parse_spool(bytes, path_);
    found_ = std::move(content.found);
    if (content.whole < bytes.size() &&
        ::ftruncate(file_, static_cast<off_t>(content.whole)) != 0) {
      fail(path_, "cut the torn end off");
    }
    sync_folder_of(path_);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

Spool::~Spool() { ::close(file_); }

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
