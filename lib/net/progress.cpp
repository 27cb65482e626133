#include "net/detail/progress.hpp"

#include <charconv>

#include "base/digest.hpp"
#include "wire/message.hpp"

namespace fedctl::net {

wire::Message with_progress(wire::Message message, const wire::Transfer& transfer) {
  return std::move(message)
      .with("have", hex_of(transfer.id()))
      .with("chunks", static_cast<std::int64_t>(transfer.chunks()));
}

Progress progress_in(const wire::Message& message) {
  Progress progress;
  if (!message.scalars.contains("have")) return progress;
  const wire::Expect fields(message, message.kind);
  const std::string text = fields.text("have");
  const auto refuse = [&] { throw ProtocolError("\"have\" is no transfer: " + text); };
  if (text.size() != 2 * progress.id.size()) refuse();
  for (std::size_t i = 0; i < progress.id.size(); ++i) {
    const char* const at = text.data() + 2 * i;
    std::uint8_t value = 0;
    const auto [end, error] = std::from_chars(at, at + 2, value, 16);
    if (error != std::errc() || end != at + 2) refuse();
    progress.id[i] = static_cast<std::byte>(value);
  }
  progress.chunks = static_cast<std::size_t>(
      fields.integer("chunks", 0, wire::chunk_count(limits::kFrameBytesMax)));
  return progress;
}

}  // namespace fedctl::net
