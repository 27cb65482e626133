#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>

#include "codec/chains.hpp"
#include "codec/detail/positions.hpp"

using namespace fedctl;

namespace {

std::vector<codec::detail::Chunk> in_one(std::size_t length, std::size_t kept) {
  return {{length, kept}};
}

std::unique_ptr<codec::Codec> topk(double ratio, std::size_t count) {
  return test::Chain{"topk", {test::plugin(codec::codec_kinds(), "topk", {{"ratio", ratio}})}}.make(
      {count});
}
Bytes bytes_of(std::initializer_list<int> numbers) {
  Bytes bytes;
  for (const int number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

}  // namespace

TEST_CASE("topk keeps the k largest magnitudes, of equals the first", "[codec][topk][property]") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(0, 20));
  INFO("seed " << seed);
  Rng rng(seed);
  const std::size_t count = 1 + rng.below(400);
  std::vector<float> values(count), out(count);
  // Few different magnitudes, so that many tie.
  for (float& value : values) value = static_cast<float>(rng.below(9)) - 4;
  for (const double ratio : {1e-6, 0.1, 0.33, 0.5, 1.0}) {
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::abs(values[a]) > std::abs(values[b]);
    });
    const auto rounded = static_cast<std::size_t>(std::llround(ratio * static_cast<double>(count)));
    std::vector<float> expected(count);
    for (std::size_t i = 0; i < std::max<std::size_t>(1, rounded); ++i) {
      expected[order[i]] = values[order[i]];
    }
    const auto codec = topk(ratio, count);
    codec->decode(codec->encode(values, rng), out);
    REQUIRE(out == expected);
  }
}

TEST_CASE("topk writes the Rice parameter, the gaps and the values", "[codec][topk][golden]") {
  std::vector<float> values(17, 0.125F), out(17);
  values[3] = 1;
  values[4] = -2;
  values[15] = 0.5F;
  // Gaps 3, 0, 10. Bits for r = 0, 1, 2, 3: 16, 12, 11, 13. With r = 2, ones, zero, two low bits:
  // 0 11 | 0 00 | 110 01 -> from the lowest bit 01100011 001 -> 0xc6 0x04.
  Rng rng(0);
  const auto codec = topk(3.0 / 17, 17);
  const Bytes encoded = codec->encode(values, rng);
  CHECK(encoded == bytes_of({2, 0xc6, 0x04, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f}));
  codec->decode(encoded, out);
  CHECK(out[4] == -2);
  CHECK(std::count(out.begin(), out.end(), 0.0F) == 14);
  const std::vector<std::pair<const char*, Bytes>> refused = {
      {"a longer Rice parameter (r = 3: 0 110 | 0 000 | 10 010)", bytes_of({3, 0x06, 0x09})},
      {"a Rice parameter of 64", bytes_of({64, 0xc6, 0x04})},
      {"padding bits", bytes_of({2, 0xc6, 0x14})},
      {"a position beyond the end (last gap 14: 111 0 01)", bytes_of({2, 0xc6, 0x09})},
      {"bits that never end", bytes_of({2, 0xff, 0xff})}};
  for (const auto& [what, head] : refused) {
    INFO(what);
    Bytes bytes = head;
    bytes.insert(bytes.end(), encoded.begin() + 3, encoded.end());
    CHECK_THROWS_AS(codec->decode(bytes, out), WireError);
  }
}

TEST_CASE("a last position one beyond the end is refused", "[codec][topk]") {
  // Gaps 3, 0, 11 below: positions 3, 4, 16. 0 11 | 0 00 | 110 11.
  const Bytes bytes = bytes_of({2, 0xc6, 0x06});
  ByteView rest(bytes);
  CHECK(codec::detail::read_positions(in_one(17, 3), rest) == std::vector<std::size_t>{3, 4, 16});
  rest = bytes;
  CHECK_THROWS_AS(codec::detail::read_positions(in_one(16, 3), rest), WireError);
}

TEST_CASE("positions of any density come back, near their entropy", "[codec][topk][property]") {
  Rng rng(5);
  const std::size_t length = 200'000;
  for (const double density : {1.0, 0.5, 0.1, 0.05, 0.01, 0.001}) {
    std::vector<std::size_t> positions;
    for (std::size_t i = 0; i < length; ++i) {
      if (rng.uniform_double() < density) positions.push_back(i);
    }
    Bytes bytes;
    codec::detail::write_positions(positions, in_one(length, positions.size()), bytes);
    CHECK(bytes.size() <= codec::detail::positions_bytes_max(in_one(length, positions.size())));
    ByteView rest(bytes);
    CHECK(codec::detail::read_positions(in_one(length, positions.size()), rest) == positions);
    CHECK(rest.empty());
    const double other = 1 - density;
    const double entropy_bits =
        density == 1 ? 0 : -std::log2(density) - other / density * std::log2(other);
    const double bits =
        8.0 * static_cast<double>(bytes.size()) / static_cast<double>(positions.size());
    INFO("density " << density << ": " << bits << " bits a position, entropy " << entropy_bits);
    CHECK(bits <= std::max(entropy_bits * 1.04, entropy_bits + 1.001 * (density == 1)) + 0.01);
  }
}

TEST_CASE("no set of positions takes more than the bound", "[codec][topk][property]") {
  for (unsigned set = 1; set < 4096; ++set) {
    std::vector<std::size_t> positions;
    for (std::size_t i = 0; i < 12; ++i) {
      if ((set >> i) & 1U) positions.push_back(i);
    }
    Bytes bytes;
    codec::detail::write_positions(positions, in_one(12, positions.size()), bytes);
    REQUIRE(bytes.size() <= codec::detail::positions_bytes_max(in_one(12, positions.size())));
    ByteView rest(bytes);
    REQUIRE(codec::detail::read_positions(in_one(12, positions.size()), rest) == positions);
  }
}

TEST_CASE("topk hands the kept values on as one block", "[codec][topk]") {
  const config::Kinds& kinds = codec::codec_kinds();
  const test::Chain chain{"",
                          {test::plugin(kinds, "topk", {{"ratio", 0.5}}),
                           test::plugin(kinds, "quantize", {{"bits", 2}})}};
  // Two blocks of the vector, but one scale for what is kept: 4, -4, 4, 4.
  const std::vector<float> values = {4, 0.1F, -4, 0.1F, 4, 0.1F, 4, 0.1F};
  std::vector<float> out(8);
  Rng rng(0);
  const auto codec = chain.make({4, 4});
  const Bytes encoded = codec->encode(values, rng);
  // Positions 0 2 4 6: r = 0, 7 bits; one scale; four codes of two bits.
  CHECK(encoded.size() == 2 + 4 + 1);
  codec->decode(encoded, out);
  CHECK(out == std::vector<float>{4, 0, -4, 0, 4, 0, 4, 0});
}
