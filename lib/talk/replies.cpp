#include "talk/replies.hpp"

#include <algorithm>

namespace fedctl::talk {

bool Replies::emplace(std::int64_t peer, wire::Message message) {
  if (contains(peer)) return false;
  const std::size_t bytes = wire::payload_bytes(message);
  Entry entry{std::move(message), nullptr, {}};
  if (bytes_ + bytes <= bytes_max_) {
    bytes_ += bytes;
  } else {
    if (!scratch_) scratch_ = Scratch::in("");
    entry.region = scratch_->take(bytes);
    std::uint64_t at = 0;
    for (auto& [name, tensor] : entry.message.tensors) {
      const Bytes values = std::exchange(tensor.bytes, {});
      entry.region->write(at, values);
      entry.sizes.push_back(values.size());
      at += values.size();
    }
  }
  entries_.emplace(peer, std::move(entry));
  return true;
}

wire::Message Replies::read(const Entry& entry) {
  wire::Message message = entry.message;
  if (!entry.region) return message;
  std::uint64_t at = 0;
  auto size = entry.sizes.begin();
  for (auto& [name, tensor] : message.tensors) {
    tensor.bytes.resize(*size++);
    entry.region->read(at, tensor.bytes);
    at += tensor.bytes.size();
  }
  return message;
}

void Replies::forget(const Entry& entry) {
  if (!entry.region) bytes_ -= wire::payload_bytes(entry.message);
}

void Replies::erase(std::int64_t peer) {
  const auto found = entries_.find(peer);
  if (found == entries_.end()) return;
  forget(found->second);
  entries_.erase(found);
}

void Replies::clear() {
  entries_.clear();
  bytes_ = 0;
}

void Replies::keep_if(const std::function<bool(std::int64_t, const wire::Message&)>& keep) {
  for (auto at = entries_.begin(); at != entries_.end();) {
    const bool kept =
        at->second.region ? keep(at->first, read(at->second)) : keep(at->first, at->second.message);
    if (kept) {
      ++at;
    } else {
      forget(at->second);
      at = entries_.erase(at);
    }
  }
}

}  // namespace fedctl::talk
