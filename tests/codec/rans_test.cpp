#include "codec/detail/rans.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "base/rng.hpp"

using namespace fedctl;
using namespace fedctl::codec::detail;

namespace {

using Symbols = std::vector<std::uint8_t>;

Symbols round_trip(const Symbols& symbols, unsigned alphabet, std::size_t* bytes = nullptr) {
  Bytes encoded(3);  // something before and behind
  rans_encode(symbols, alphabet, encoded);
  CHECK(encoded.size() - 3 <= rans_bytes_max(symbols.size(), alphabet));
  if (bytes != nullptr) *bytes = encoded.size() - 3;
  encoded.push_back(std::byte{0x5a});
  ByteView rest = ByteView(encoded).subspan(3);
  Symbols out(symbols.size(), 99);
  rans_decode(rest, alphabet, out);
  CHECK(rest.size() == 1);
  return out;
}

// Non-zeros with this chance, half of them 1, half 2.
Symbols ternary(std::size_t count, double density) {
  Rng rng(7);
  Symbols symbols(count);
  for (std::uint8_t& symbol : symbols) {
    if (rng.uniform_double() < density) symbol = static_cast<std::uint8_t>(1 + rng.below(2));
  }
  return symbols;
}

double entropy_bytes(const Symbols& symbols) {
  std::vector<double> counts(256);
  for (const std::uint8_t symbol : symbols) ++counts[symbol];
  double bits = 0;
  for (const double count : counts) {
    if (count > 0) bits += count * std::log2(static_cast<double>(symbols.size()) / count);
  }
  return bits / 8;
}

}  // namespace

TEST_CASE("rans: one number, one at either end, few numbers", "[codec][rans]") {
  for (const std::size_t count : {0, 1, 2, 3, 4, 5, 7, 8, 9, 1000}) {
    INFO(count);
    std::size_t bytes = 0;
    const Symbols zeros(count, 0);
    CHECK(round_trip(zeros, 3, &bytes) == zeros);
    CHECK(bytes <= 5);  // 2^14 and two zeros
    if (count == 0) continue;
    for (const std::size_t at : {std::size_t{0}, count - 1}) {
      Symbols one = zeros;
      one[at] = 2;
      CHECK(round_trip(one, 3) == one);
    }
  }
}

TEST_CASE("rans stays within 0.2 % of the entropy of ternary vectors", "[codec][rans]") {
  for (const double density : {0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5}) {
    INFO(density);
    const Symbols symbols = ternary(1 << 20, density);
    std::size_t bytes = 0;
    CHECK(round_trip(symbols, 3, &bytes) == symbols);
    const double entropy = entropy_bytes(symbols);
    CHECK(static_cast<double>(bytes) > entropy);
    CHECK(static_cast<double>(bytes) < entropy * 1.002 + 24);  // the table and the states
  }
}

TEST_CASE("rans: all 256 numbers", "[codec][rans]") {
  Rng rng(8);
  Symbols symbols(100'000);
  for (std::uint8_t& symbol : symbols) {
    symbol = static_cast<std::uint8_t>(rng.below(rng.below(256) + 1));
  }
  std::size_t bytes = 0;
  CHECK(round_trip(symbols, 256, &bytes) == symbols);
  CHECK(static_cast<double>(bytes) < entropy_bytes(symbols) * 1.005 + 530);
}

TEST_CASE("rans: a table of other numbers, cut or changed bytes are refused", "[codec][rans]") {
  const Symbols symbols = ternary(500, 0.3);
  Bytes encoded;
  rans_encode(symbols, 3, encoded);
  Symbols out(symbols.size());
  const auto decoded = [&](const Bytes& bytes) {
    ByteView rest = bytes;
    try {
      rans_decode(rest, 3, out);
    } catch (const WireError&) {
      return false;
    }
    return rest.empty();
  };
  REQUIRE(decoded(encoded));
  for (std::size_t size = 0; size < encoded.size(); ++size) {
    CHECK(!decoded(Bytes(encoded.begin(), encoded.begin() + static_cast<std::ptrdiff_t>(size))));
  }
  for (std::size_t at = 0; at < encoded.size(); ++at) {
    Bytes changed = encoded;
    changed[at] ^= std::byte{1};
    CHECK(!decoded(changed));
  }
}
