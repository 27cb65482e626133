#include "data/detail/tokenizer_merges.hpp"

#include <queue>

#include "base/errors.hpp"

namespace fedctl::data {
namespace {

constexpr std::size_t kMergesMax = std::size_t{1} << 22;
constexpr std::int64_t kGone = -1;
constexpr const char* kHint = "do the merges belong to this vocabulary?";

// Vocabulary bounds numbers far below 2^32.
std::uint64_t pair_of(std::int64_t left, std::int64_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
}

// A merge that was possible when it was queued.
struct Offer {
  std::uint32_t rank;
  std::size_t left;
  std::int64_t token;
  bool operator<(const Offer& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

}  // namespace

void Merges::add(const Vocabulary& vocabulary, std::string_view left, std::string_view right,
                 const std::string& place) {
  const std::string result = std::string(left) + std::string(right);
  const std::int64_t left_id = vocabulary.id_of(left), right_id = vocabulary.id_of(right);
  const std::int64_t result_id = vocabulary.id_of(result);
  if (left_id < 0 || right_id < 0 || result_id < 0) {
    const std::string missing(left_id < 0 ? left : right_id < 0 ? right : result);
    throw DataError(place + ": \"" + missing + "\" is no token", kHint);
  }
  if (vocabulary.is_special(result_id)) {
    throw DataError(place + ": the merge makes the special token \"" + result + '"', kHint);
  }
  if (pairs_.size() == kMergesMax) {
    throw DataError(place + ": more than " + std::to_string(kMergesMax) + " merges", kHint);
  }
  const std::uint64_t pair = pair_of(left_id, right_id);
  const auto rank = static_cast<std::uint32_t>(pairs_.size());
  if (!results_.try_emplace(pair, Result{rank, result_id}).second) {
    throw DataError(place + ": the merge is there twice", kHint);
  }
  pairs_.push_back(pair);
}

const Merges::Result* Merges::find(std::int64_t left, std::int64_t right) const {
  const auto found = results_.find(pair_of(left, right));
  return found == results_.end() ? nullptr : &found->second;
}

void Merges::apply(std::vector<std::int64_t>& tokens) const {
  const std::size_t end = tokens.size();
  if (end < 2) return;
  // Tokens are linked, not moved.
  std::vector<std::size_t> next(end), previous(end);
  std::priority_queue<Offer> queue;
  const auto offer = [&](std::size_t left) {
    if (next[left] == end) return;
    if (const Result* result = find(tokens[left], tokens[next[left]]))
      queue.push({result->rank, left, result->token});
  };
  for (std::size_t i = 0; i < end; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;  // of the first: never followed
  }
  for (std::size_t i = 0; i < end; ++i) offer(i);
  while (!queue.empty()) {
    const Offer best = queue.top();
    queue.pop();
    const std::size_t right = next[best.left];
    if (tokens[best.left] == kGone || right == end) continue;
    // As `tokenizers` has it, an offer stands if what is there now makes the same token.
    const Result* result = find(tokens[best.left], tokens[right]);
    if (result == nullptr || result->token != best.token) continue;
    tokens[best.left] = best.token;
    tokens[right] = kGone;
    next[best.left] = next[right];
    if (next[best.left] != end) previous[next[best.left]] = best.left;
    offer(best.left);
    if (best.left != 0) offer(previous[best.left]);
  }
  std::erase(tokens, kGone);
}

void Merges::add_to(Digest& digest) const {
  for (const std::uint64_t pair : pairs_) digest.add(std::to_string(pair));
}

}  // namespace fedctl::data
