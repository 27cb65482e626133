#include "talk/replies.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "base/rng.hpp"

using namespace fedctl;
using talk::Replies;
using wire::Message;

namespace {

// 400 bytes of float32, and coded ones, whose number does not follow from the shape.
Message answer(std::int64_t peer) {
  std::vector<float> values(100);
  Rng rng(static_cast<std::uint64_t>(peer));
  for (float& value : values) value = static_cast<float>(rng.normal());
  const Bytes coded(static_cast<std::size_t>(peer % 7), std::byte{9});
  return Message("update")
      .with("examples", peer)
      .with("coded", Tensor{DType::coded, {1000}, coded})
      .with("delta", Tensor::of(std::span<const float>(values), {4, 25}))
      .with("none", Tensor::zeros(DType::f32, {0}));
}

}  // namespace

TEST_CASE("answers come back as they were, by peer, in memory or not", "[talk][replies]") {
  const std::size_t bytes_max = GENERATE(0, 399, 1000, 1 << 20);
  Replies replies(nullptr, bytes_max);
  for (const std::int64_t peer : {5, 3, 9, 1, 7}) CHECK(replies.emplace(peer, answer(peer)));
  CHECK_FALSE(replies.emplace(3, answer(4)));
  CHECK(replies.size() == 5);
  CHECK(replies.bytes() <= bytes_max);
  CHECK((replies.bytes() > 0) == (bytes_max >= 1000));
  const auto check = [&](const std::vector<std::int64_t>& expected) {
    std::vector<std::int64_t> seen;
    for (const auto& [peer, reply] : replies) {
      CHECK(reply == answer(peer));
      seen.push_back(peer);
    }
    CHECK(seen == expected);
  };
  check({1, 3, 5, 7, 9});
  check({1, 3, 5, 7, 9});
  CHECK(replies.at(7) == answer(7));
  replies.erase(3);
  replies.erase(4);
  CHECK_FALSE(replies.contains(3));
  replies.keep_if([](std::int64_t peer, const Message& reply) {
    CHECK(reply == answer(peer));
    return peer != 9;
  });
  check({1, 5, 7});
  replies.erase(5);
  replies.erase(1);
  replies.erase(7);
  CHECK(replies.empty());
  CHECK(replies.bytes() == 0);
}

TEST_CASE("what is erased gives its place on the disk back", "[talk][replies]") {
  const auto scratch = Scratch::in("");
  Replies replies(scratch, 0);
  for (std::int64_t peer = 0; peer < 50; ++peer) replies.emplace(peer, answer(peer));
  CHECK(scratch->taken() > 50 * 400);
  Replies copy = replies;
  replies.clear();
  CHECK(copy.at(49) == answer(49));
  CHECK(scratch->taken() > 50 * 400);
  copy.clear();
  CHECK(scratch->taken() == 0);
}
