#include "run/crossings.hpp"

namespace fedctl::run {
namespace {

// Rows of a client and its parts, up and down.
using Part = std::uint64_t talk::Traffic::*;
constexpr Part kTrafficParts[] = {&talk::Traffic::payload, &talk::Traffic::framing,
                                  &talk::Traffic::tls, &talk::Traffic::resent,
                                  &talk::Traffic::control};
constexpr std::size_t kColumns = 1 + 2 * std::size(kTrafficParts);

}  // namespace

wire::Message saved_crossings(const std::map<talk::PeerId, talk::Crossing>& bytes) {
  std::vector<std::int64_t> rows;
  for (const auto& [peer, crossing] : bytes) {
    rows.push_back(peer);
    for (const talk::Traffic* way : {&crossing.up, &crossing.down}) {
      for (const Part part : kTrafficParts) rows.push_back(static_cast<std::int64_t>(way->*part));
    }
  }
  const auto count = static_cast<std::int64_t>(bytes.size());
  return wire::Message("bytes").with(
      "rows", Tensor::of(rows, {count, static_cast<std::int64_t>(kColumns)}));
}

std::map<talk::PeerId, talk::Crossing> crossings_in(const wire::Message& saved) {
  const auto found = saved.tensors.find("rows");
  if (found == saved.tensors.end() || found->second.dtype != DType::i64 ||
      found->second.i64().size() % kColumns != 0) {
    throw WireError("\"" + saved.kind + "\" has no rows");
  }
  std::map<talk::PeerId, talk::Crossing> bytes;
  const std::span<const std::int64_t> rows = found->second.i64();
  for (std::size_t at = 0; at < rows.size();) {
    talk::Crossing& crossing = bytes[rows[at++]];
    for (talk::Traffic* way : {&crossing.up, &crossing.down}) {
      for (const Part part : kTrafficParts) way->*part = static_cast<std::uint64_t>(rows[at++]);
    }
  }
  return bytes;
}

}  // namespace fedctl::run
