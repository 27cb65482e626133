#include "methods/detail/combined.hpp"

#include <algorithm>
#include <thread>
#include <vector>

namespace fedctl::methods {
namespace {

using aggregate::Contribution;

// Values of all contributions that are worth a thread.
constexpr std::size_t kValuesMin = std::size_t{1} << 20;

// Combines out[first, first + count).
void combine_piece(aggregate::Aggregator& rule, std::span<const Contribution> all,
                   std::size_t first, std::span<float> out) {
  std::vector<Contribution> pieces(all.begin(), all.end());
  for (Contribution& piece : pieces) piece.values = piece.values.subspan(first, out.size());
  rule.combine(pieces, out);
}

void combine_in_pieces(aggregate::Aggregator& rule, std::span<const Contribution> all,
                       std::size_t workers, std::span<float> out) {
  const std::size_t useful = all.size() * out.size() / kValuesMin;
  const std::size_t count = rule.by_coordinate() ? std::clamp<std::size_t>(useful, 1, workers) : 1;
  const std::size_t size = (out.size() + count - 1) / count;
  std::vector<std::jthread> others;
  for (std::size_t first = size; first < out.size(); first += size) {
    const auto piece = out.subspan(first, std::min(size, out.size() - first));
    others.emplace_back([&rule, all, first, piece] { combine_piece(rule, all, first, piece); });
  }
  combine_piece(rule, all, 0, out.first(std::min(size, out.size())));
}

}  // namespace

std::vector<float> combine_replies(const Replies& replies, const Take& take, ServerContext& ctx,
                                   std::size_t count) {
  if (!replies.in_memory()) {
    const auto sum = ctx.aggregator.start(count);
    for (const auto& [peer, reply] : replies) sum->add(take(peer, reply));
    std::vector<float> out(count);  // where the last reply was
    sum->finish(out);
    return out;
  }
  std::vector<float> out(count);
  std::vector<Contribution> all;
  for (const auto& [peer, reply] : replies) all.push_back(take(peer, reply));
  combine_in_pieces(ctx.aggregator, all, ctx.learners.count_max(), out);
  return out;
}

}  // namespace fedctl::methods
