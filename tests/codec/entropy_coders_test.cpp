// The coders of numbers of a small alphabet: what all of them must do, and the bytes of each.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <queue>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "codec/chains.hpp"

using namespace fedctl;

namespace {

using Symbols = std::vector<std::uint8_t>;

struct Coder {
  std::string name;
  std::unique_ptr<codec::SymbolCoder> coder;

  Bytes encode(const Symbols& symbols, unsigned alphabet) const {
    Bytes encoded;
    coder->encode(symbols, alphabet, encoded);
    return encoded;
  }
  // Empty if the bytes are refused or some are left over.
  Symbols decode(const Bytes& encoded, unsigned alphabet, std::size_t count) const {
    Symbols symbols(count, 99);
    ByteView rest = encoded;
    try {
      coder->decode(rest, alphabet, symbols);
    } catch (const WireError&) {
      return {};
    }
    return rest.empty() ? symbols : Symbols();
  }
};

Coder coder_of(const std::string& name, std::map<std::string, double> options = {}) {
  const config::Plugin plugin = test::plugin(codec::codec_kinds(), name, std::move(options));
  return {name, test::entry_of(plugin).make_coder(*plugin.options)};
}

std::vector<Coder> all_coders() {
  std::vector<Coder> coders;
  for (const codec::CodecEntry& entry : codec::codecs()) {
    if (entry.stage != codec::Stage::coder) continue;
    for (const config::Plugin& plugin : test::variants(entry)) {
      coders.push_back({entry.kind.name, entry.make_coder(*plugin.options)});
    }
  }
  return coders;
}

// Numbers other than 0 with this chance.
Symbols sparse(std::size_t count, unsigned alphabet, double density) {
  Rng rng(7);
  Symbols symbols(count);
  for (std::uint8_t& symbol : symbols) {
    if (rng.uniform_double() < density)
      symbol = static_cast<std::uint8_t>(1 + rng.below(alphabet - 1));
  }
  return symbols;
}

std::vector<Symbols> adversaries(unsigned alphabet) {
  const auto last = static_cast<std::uint8_t>(alphabet - 1);
  std::vector<Symbols> all = {sparse(5000, alphabet, 0.001), sparse(1000, alphabet, 0.7)};
  for (const std::size_t count : {0, 1, 2, 3, 5, 7, 8, 9, 1000}) {
    for (const std::uint8_t fill : {std::uint8_t{0}, last}) {
      all.push_back(Symbols(count, fill));
      if (count == 0) continue;
      for (const std::size_t at : {std::size_t{0}, count / 2, count - 1}) {
        Symbols one(count, fill);
        one[at] = fill == 0 ? last : std::uint8_t{0};
        all.push_back(one);
      }
    }
  }
  return all;
}

std::vector<std::uint64_t> counts_of(const Symbols& symbols) {
  std::vector<std::uint64_t> counts(256);
  for (const std::uint8_t symbol : symbols) ++counts[symbol];
  return counts;
}

double entropy_bits(const Symbols& symbols) {
  double bits = 0;
  for (const std::uint64_t count : counts_of(symbols)) {
    const auto n = static_cast<double>(count);
    if (count > 0) bits += n * std::log2(static_cast<double>(symbols.size()) / n);
  }
  return bits;
}

Bytes bytes(std::initializer_list<int> values) {
  Bytes made;
  for (const int value : values) made.push_back(static_cast<std::byte>(value));
  return made;
}

}  // namespace

TEST_CASE("coders: extremes of every alphabet make the round trip", "[codec][coders]") {
  const unsigned alphabet = GENERATE(2U, 3U, 4U, 6U, 15U, 17U, 255U, 256U);
  for (const Coder& coder : all_coders()) {
    for (const Symbols& symbols : adversaries(alphabet)) {
      INFO(coder.name << ", " << symbols.size() << " numbers below " << alphabet);
      Bytes encoded(3);  // something before and behind
      coder.coder->encode(symbols, alphabet, encoded);
      CHECK(encoded.size() - 3 <= coder.coder->max_encoded_bytes(symbols.size(), alphabet));
      encoded.push_back(std::byte{0x5a});
      ByteView rest = ByteView(encoded).subspan(3);
      Symbols out(symbols.size(), 99);
      coder.coder->decode(rest, alphabet, out);
      CHECK(rest.size() == 1);
      CHECK(out == symbols);
    }
  }
}

TEST_CASE("coders: what is not refused encodes to the same bytes", "[codec][coders][property]") {
  Rng rng(8);
  for (const Coder& coder : all_coders()) {
    for (const unsigned alphabet : {2U, 3U, 5U, 200U}) {
      const Symbols symbols = sparse(60, alphabet, 0.3);
      const Bytes encoded = coder.encode(symbols, alphabet);
      INFO(coder.name << ", alphabet " << alphabet);
      for (std::size_t size = 0; size < encoded.size(); ++size) {
        const Bytes cut(encoded.begin(), encoded.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(coder.decode(cut, alphabet, symbols.size()).empty());
      }
      std::size_t accepted = 0;
      for (int trial = 0; trial < 3000; ++trial) {
        Bytes changed = encoded;
        for (std::uint64_t flips = 1 + rng.below(3); flips > 0; --flips) {
          changed[rng.below(changed.size())] ^= static_cast<std::byte>(1U << rng.below(8));
        }
        if (trial % 2 == 0) {
          changed[rng.below(changed.size())] = static_cast<std::byte>(rng.next_u32());
        }
        const Symbols decoded = coder.decode(changed, alphabet, symbols.size());
        if (decoded.empty()) continue;
        ++accepted;
        REQUIRE(std::ranges::all_of(decoded, [&](unsigned symbol) { return symbol < alphabet; }));
        REQUIRE(coder.encode(decoded, alphabet) == changed);
      }
      CHECK(accepted < 3000);
    }
  }
}

TEST_CASE("golomb: bytes by hand", "[codec][golomb]") {
  // Runs 3, 1, and 2 at the end; M = 2: "10" 1 "0", "0" 1 "1", "10" 0.
  const Symbols symbols = {0, 0, 0, 1, 0, 2, 0, 0};
  const Bytes expected = bytes({0, 2, 0xe5, 0x00});
  for (const double rice : {0, 1}) {
    const Coder coder = coder_of("golomb", {{"power_of_two", rice}});
    CHECK(coder.encode(symbols, 3) == expected);
    CHECK(coder.encode(Symbols(100, 2), 3) == bytes({2, 0}));
    CHECK(coder.decode(expected, 3, 8) == symbols);
    CHECK(coder.decode(bytes({1, 2, 0xe5, 0x00}), 3, 8) == Symbols{1, 1, 1, 0, 1, 2, 1, 1});
    // Another zero, the same runs with M = 1, padding, too long a run, M = 0 with more behind it.
    CHECK(coder.decode(bytes({3, 2, 0xe5, 0x00}), 3, 8).empty());
    CHECK(coder.decode(bytes({0, 1, 0xa7, 0x03}), 3, 8).empty());
    CHECK(coder.decode(bytes({0, 2, 0xe5, 0x04}), 3, 8).empty());
    CHECK(coder.decode(bytes({0, 2, 0xff, 0xff}), 3, 8).empty());
    CHECK(coder.decode(bytes({0, 0, 0xe5, 0x00}), 3, 8).empty());
    CHECK(coder.decode(bytes({0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}), 3, 8).empty());
  }
}

TEST_CASE("golomb: no parameter at all would be 0.1 % shorter", "[codec][golomb]") {
  for (const double density : {0.0005, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5}) {
    INFO(density);
    const Symbols symbols = sparse(1 << 16, 2, density);
    std::vector<std::size_t> runs(1);
    for (const std::uint8_t symbol : symbols) {
      if (symbol == 0) ++runs.back();
      if (symbol != 0) runs.push_back(0);
    }
    if (runs.back() == 0) runs.pop_back();
    std::size_t best = SIZE_MAX;
    for (std::size_t m = 1; m < 4000; ++m) {
      const auto b = static_cast<std::size_t>(std::bit_width(m - 1));
      std::size_t bits = 0;
      for (const std::size_t run : runs) {
        bits += run / m + 1 + b - (run % m < (std::size_t{1} << b) - m ? 1 : 0);
      }
      best = std::min(best, bits);
    }
    const auto written = 8 * static_cast<double>(coder_of("golomb").encode(symbols, 2).size() - 3);
    CHECK(written <= static_cast<double>(best) * 1.001 + 8);
  }
}

TEST_CASE("golomb is within 1 % of the entropy of sparse signs, Rice within 2 %",
          "[codec][golomb]") {
  for (const double density : {0.01, 0.05, 0.1, 0.2, 0.3, 0.5}) {
    INFO(density);
    const Symbols symbols = sparse(1 << 18, 3, density);
    const double entropy = entropy_bits(symbols) / 8;
    const auto golomb = static_cast<double>(coder_of("golomb").encode(symbols, 3).size());
    const auto rice =
        static_cast<double>(coder_of("golomb", {{"power_of_two", 1}}).encode(symbols, 3).size());
    CHECK(golomb >= entropy);
    CHECK(golomb <= 1.01 * entropy);
    CHECK(rice >= golomb);
    CHECK(rice <= 1.02 * entropy);
  }
}

TEST_CASE("huffman: bytes by hand", "[codec][huffman]") {
  // Lengths 1, 2, 3, 3; codes 0, 10, 110, 111.
  const Coder coder = coder_of("huffman");
  const Symbols symbols = {0, 0, 1, 0, 2, 1, 3, 0};
  CHECK(coder.encode(symbols, 4) == bytes({0x21, 0x33, 0x64, 0x1d}));
  CHECK(coder.decode(bytes({0x21, 0x33, 0x64, 0x1d}), 4, 8) == symbols);
  CHECK(coder.encode(Symbols(1000, 3), 4) == bytes({0x00, 0x10}));
  // A code that is none, one with room left, none at all, one alone of 2 bits, padding, and a code
  // that is one but not that of these numbers: 2, 2, 2, 2.
  for (const Bytes& wrong :
       {bytes({0x11, 0x11, 0x64, 0x1d}), bytes({0x21, 0x03, 0x64, 0x1d}), bytes({0x00, 0x00}),
        bytes({0x00, 0x20}), bytes({0x21, 0x33, 0x64, 0x5d}), bytes({0x22, 0x22, 0x64, 0x1d})}) {
    CHECK(coder.decode(wrong, 4, 8).empty());
  }
}

TEST_CASE("huffman is as short as a tree without a limit, and below H + 1", "[codec][huffman]") {
  for (const unsigned alphabet : {3U, 7U, 16U, 255U}) {
    for (const double density : {0.01, 0.3, 0.9}) {
      const Symbols symbols = sparse(20'000, alphabet, density);
      INFO("alphabet " << alphabet << ", density " << density);
      std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>> nodes;
      for (const std::uint64_t count : counts_of(symbols)) {
        if (count > 0) nodes.push(count);
      }
      std::uint64_t bits = 0;  // every inner node adds a bit to what is below it
      while (nodes.size() > 1) {
        const std::uint64_t first = nodes.top();
        nodes.pop();
        const std::uint64_t second = nodes.top();
        nodes.pop();
        bits += first + second;
        nodes.push(first + second);
      }
      const Bytes encoded = coder_of("huffman").encode(symbols, alphabet);
      CHECK(encoded.size() == (alphabet + 1) / 2 + (bits + 7) / 8);
      CHECK(static_cast<double>(bits) >= entropy_bits(symbols));
      CHECK(static_cast<double>(bits) < entropy_bits(symbols) + 20'000);
    }
  }
}

TEST_CASE("huffman: no code is longer than 15 bits", "[codec][huffman]") {
  // Fibonacci's numbers as counts make the deepest tree: 19 bits for 20 of them.
  Symbols symbols;
  std::size_t count = 1, next = 1;
  for (std::uint8_t symbol = 0; symbol < 20; ++symbol) {
    symbols.insert(symbols.end(), count, symbol);
    next += count;
    count = next - count;
  }
  const Coder coder = coder_of("huffman");
  const Bytes encoded = coder.encode(symbols, 20);
  std::size_t share = 0, longest = 0;
  for (std::size_t i = 0; i < 20; ++i) {
    const std::size_t length = (std::to_integer<std::size_t>(encoded[i / 2]) >> (4 * (i % 2))) & 15;
    REQUIRE(length > 0);
    longest = std::max(longest, length);
    share += std::size_t{1} << (15 - length);
  }
  CHECK(longest == 15);
  CHECK(share == 1U << 15);
  CHECK(coder.decode(encoded, 20, symbols.size()) == symbols);
  CHECK(8 * static_cast<double>(encoded.size()) < entropy_bits(symbols) * 1.05);
}

TEST_CASE("base3: bytes by hand, and those that stand for no numbers", "[codec][base3]") {
  const Coder coder = coder_of("base3");
  const Symbols symbols = {0, 1, 2, 0, 1, 2, 2};
  CHECK(coder.encode(symbols, 3) == bytes({0x66, 0x08}));
  CHECK(coder.decode(bytes({0x66, 0x08}), 3, 7) == symbols);
  CHECK(coder.decode(bytes({242, 8}), 3, 7) == Symbols(7, 2));
  CHECK(coder.decode(bytes({243, 8}), 3, 7).empty());
  CHECK(coder.decode(bytes({242, 9}), 3, 7).empty());
  CHECK(coder.decode(bytes({199}), 200, 1) == Symbols{199});
  CHECK(coder.decode(bytes({200}), 200, 1).empty());
  CHECK(coder.coder->max_encoded_bytes(1000, 2) == 125);
  CHECK(coder.coder->max_encoded_bytes(1000, 4) == 250);
  CHECK(coder.coder->max_encoded_bytes(1000, 6) == 334);
  CHECK(coder.coder->max_encoded_bytes(1000, 16) == 500);
  CHECK(coder.coder->max_encoded_bytes(1000, 17) == 1000);
}
