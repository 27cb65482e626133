// Replies: a round's answers, by peer. Beyond limits::kRepliesBytesMax their tensors are on disk
// and come back one answer at a time, so that memory does not grow with the cohort.
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/limits.hpp"
#include "base/scratch.hpp"
#include "wire/message.hpp"

namespace fedctl::talk {

class Replies {
  // With a region: without the bytes of its tensors, so many of each, which lie there one behind
  // the other.
  struct Entry {
    wire::Message message;
    std::shared_ptr<Scratch::Region> region;
    std::vector<std::size_t> sizes;
  };
  using Entries = std::map<std::int64_t, Entry>;

 public:
  // What does not fit into memory goes to `scratch`; null: to one of its own.
  explicit Replies(std::shared_ptr<Scratch> scratch = nullptr,
                   std::size_t bytes_max = limits::kRepliesBytesMax)
      : scratch_(std::move(scratch)), bytes_max_(bytes_max) {}

  std::size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  bool contains(std::int64_t peer) const { return entries_.contains(peer); }
  // Bytes of tensors in memory.
  std::size_t bytes() const { return bytes_; }

  // False if there is one of this peer. Throws RunDirectoryError if the disk cannot take it.
  bool emplace(std::int64_t peer, wire::Message message);
  void erase(std::int64_t peer);
  void clear();
  // A copy. Precondition: contains(peer).
  wire::Message at(std::int64_t peer) const { return read(entries_.at(peer)); }
  // In order of peers; those that `keep` returns false for are erased.
  void keep_if(const std::function<bool(std::int64_t peer, const wire::Message& reply)>& keep);

  // In order of peers; a reply is there until the iterator moves on.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::pair<std::int64_t, const wire::Message&>;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(Entries::const_iterator at) : at_(at) {}

    value_type operator*() const {
      if (!at_->second.region) return {at_->first, at_->second.message};
      if (!read_) read_ = Replies::read(at_->second);
      return {at_->first, *read_};
    }
    Iterator& operator++() {
      read_.reset();
      ++at_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    Entries::const_iterator at_;
    mutable std::optional<wire::Message> read_;
  };
  Iterator begin() const { return Iterator(entries_.begin()); }
  Iterator end() const { return Iterator(entries_.end()); }

 private:
  static wire::Message read(const Entry& entry);
  void forget(const Entry& entry);

  std::shared_ptr<Scratch> scratch_;
  std::size_t bytes_max_, bytes_ = 0;
  Entries entries_;
};

}  // namespace fedctl::talk
