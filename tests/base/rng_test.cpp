#include "base/rng.hpp"

#include <catch2/catch.hpp>
#include <set>

using fedctl::philox4x32_10;
using fedctl::Rng;

// Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32, 10 rounds).
TEST_CASE("philox gives the published vectors", "[base][rng][golden]") {
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) ==
        std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a stream depends on its path alone", "[base][rng]") {
  Rng root(7);
  Rng before = root.stream("sampling", 3);
  for (int i = 0; i < 100; ++i) root.next_u32();
  Rng after = root.stream("sampling", 3);
  std::set<std::uint64_t> firsts;
  for (int i = 0; i < 10; ++i) CHECK(before.next_u64() == after.next_u64());
  for (const std::uint64_t seed : {1, 2}) {
    for (const char* name : {"a", "b"}) {
      for (int number : {0, 1, 2}) firsts.insert(Rng(seed).stream(name, number).next_u64());
    }
  }
  CHECK(firsts.size() == 12);
}

TEST_CASE("draws have the moments of their distribution", "[base][rng]") {
  Rng rng(11);
  constexpr int kDraws = 200'000;
  double sum = 0, squares = 0, gamma_sum = 0, small_gamma_sum = 0;
  std::array<int, 5> bins{};
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.normal();
    sum += x;
    squares += x * x;
    gamma_sum += rng.gamma(2.5);
    small_gamma_sum += rng.gamma(0.3);
    ++bins[rng.below(5)];
    const float u = rng.uniform();
    REQUIRE((u >= 0.0F && u < 1.0F));
  }
  CHECK(sum / kDraws == Approx(0).margin(0.01));
  CHECK(squares / kDraws == Approx(1).epsilon(0.02));
  CHECK(gamma_sum / kDraws == Approx(2.5).epsilon(0.02));
  CHECK(small_gamma_sum / kDraws == Approx(0.3).epsilon(0.03));
  for (const int count : bins) CHECK(count == Approx(kDraws / 5).epsilon(0.03));
}

TEST_CASE("a permutation holds every index once", "[base][rng]") {
  const auto order = Rng(3).permutation(1000);
  CHECK(std::set<std::size_t>(order.begin(), order.end()).size() == 1000);
  CHECK(order != Rng(4).permutation(1000));
}
