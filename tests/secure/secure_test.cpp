#include <catch2/catch.hpp>
#include <cmath>

#include "secure/keys.hpp"
#include "secure/masks.hpp"
#include "secure/shamir.hpp"

using namespace fedctl;
using namespace fedctl::secure;

namespace {

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

TEST_CASE("hkdf: known answers of RFC 5869", "[secure][golden]") {
  const Bytes secret(22, std::byte{0x0b});
  const Key one =
      hkdf(secret, from_hex("000102030405060708090a0b0c"), from_hex("f0f1f2f3f4f5f6f7f8f9"));
  CHECK(Bytes(one.begin(), one.end()) ==
        from_hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
  const Key three = hkdf(secret, {}, {});
  CHECK(Bytes(three.begin(), three.end()) ==
        from_hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
}

TEST_CASE("agreed keys, masks and shares are those of docs/secure-aggregation.md",
          "[secure][golden]") {
  // By hmac and hashlib of Python and its package cryptography.
  Key one, other;
  for (std::size_t i = 0; i < one.size(); ++i) {
    one[i] = static_cast<std::byte>(i);
    other[i] = static_cast<std::byte>(100 + i);
  }
  const Key agreed = *agree(one, open_of(one), open_of(other), "letters 7");
  CHECK(Bytes(agreed.begin(), agreed.end()) ==
        from_hex("e535a690ab3ee3a7c04c1d35690a8c27e28e0097a1e3687e92dd37102d186b14"));
  std::vector<std::uint32_t> words(4);
  add_mask(one, true, 20, words);
  CHECK(words == std::vector<std::uint32_t>{785721, 640473, 245133, 711864});
  Bytes share;
  write_share(split(one, 1, 1)[0], share);
  CHECK(share ==
        from_hex("00010203080a0c0e2024282c606870780011213182a2c262054686460d8e0e0f1f630d4d"));
}

TEST_CASE("two parties agree, and nobody else reads their letters", "[secure]") {
  const KeyPair a = make_pair(), b = make_pair(), c = make_pair();
  const auto ab = agree(a.secret, a.open, b.open, "letters");
  const auto ba = agree(b.secret, b.open, a.open, "letters");
  REQUIRE(ab);
  CHECK(*ab == *ba);
  CHECK(*ab != *agree(a.secret, a.open, c.open, "letters"));
  CHECK(*ab != *agree(a.secret, a.open, b.open, "masks"));
  CHECK_FALSE(agree(a.secret, a.open, Key{}, "letters"));
  const Bytes plain = from_hex("00112233");
  Bytes sealed = seal(*ab, plain);
  CHECK(sealed.size() == plain.size() + kSealBytes);
  CHECK(open_sealed(*ba, sealed) == plain);
  CHECK(seal(*ab, plain) != sealed);
  CHECK_FALSE(open_sealed(*agree(c.secret, c.open, b.open, "letters"), sealed));
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    sealed[i] ^= std::byte{1};
    CHECK_FALSE(open_sealed(*ba, sealed));
    sealed[i] ^= std::byte{1};
  }
  CHECK_FALSE(open_sealed(*ba, {}));
}

TEST_CASE("keys of small order are of no use", "[secure][hostile]") {
  CHECK(usable(make_pair().open));
  // All points of order 1, 2, 4 and 8 (Langley, Hamburg, Turner, RFC 7748, section 7).
  for (const char* hex : {"0000000000000000000000000000000000000000000000000000000000000000",
                          "0100000000000000000000000000000000000000000000000000000000000000",
                          "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
                          "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
                          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    Key open;
    std::ranges::copy(from_hex(hex), open.begin());
    INFO(hex);
    CHECK_FALSE(usable(open));
  }
}

TEST_CASE("shares: any threshold of them give the key, fewer do not", "[secure]") {
  for (const auto& [threshold, count] :
       {std::pair<std::size_t, std::size_t>{1, 1}, {1, 4}, {2, 3}, {5, 9}, {20, 40}}) {
    INFO(threshold << " of " << count);
    const Key secret = random_key();
    const std::vector<Share> shares = split(secret, threshold, count);
    Rng rng(threshold);
    for (int turn = 0; turn < 20; ++turn) {
      std::vector<Held> held;
      for (const std::size_t n : rng.permutation(count)) {
        if (held.size() < threshold) held.push_back({static_cast<std::uint32_t>(n), shares[n]});
      }
      CHECK(join(held, threshold) == secret);
      held.pop_back();
      CHECK_FALSE(join(held, threshold));
      // As many as asked for, of which one is wrong.
      if (threshold < 2) continue;
      held.push_back(held[0]);
      CHECK_FALSE(join(held, threshold));
      held.back().number = static_cast<std::uint32_t>(count);
      CHECK(join(held, threshold) != secret);
    }
  }
  // Right ones are found among wrong ones, as long as there are enough of them.
  for (const std::size_t piece : {0U, 4U, 8U}) {
    const Key secret = random_key();
    const std::vector<Share> shares = split(secret, 4, 7);
    for (std::size_t wrong = 0; wrong <= 4; ++wrong) {
      std::vector<Held> held;
      for (std::uint32_t n = 0; n < 7; ++n) {
        held.push_back({n, shares[n]});
        if (n < wrong) held.back().share[piece] = Rng(n).next_u32() >> 1;
      }
      INFO(wrong << " wrong in piece " << piece);
      CHECK(join(held, 4) == (wrong < 4 ? std::optional(secret) : std::nullopt));
    }
    CHECK(std::ranges::all_of(shares, is_share));
  }
  CHECK_FALSE(is_share(kNoShare));
  // One share fewer is uniform: the first piece of a fixed share over many splits.
  const Key zero{};
  std::vector<double> counts(16);
  for (int turn = 0; turn < 16'000; ++turn) ++counts[split(zero, 2, 2)[0][0] >> 27];
  double square = 0;
  for (const double count : counts) square += std::pow(count - 1000, 2) / 1000;
  CHECK(square < 44);  // chi-square, 15 degrees of freedom, 1e-4

  Bytes bytes;
  const Share share = split(random_key(), 2, 3)[1];
  write_share(share, bytes);
  CHECK(bytes.size() == kShareBytes);
  ByteReader reader(bytes);
  CHECK(read_share(reader) == share);
}

TEST_CASE("masks: removed by their twin, uniform alone", "[secure]") {
  for (const unsigned bits : {1U, 7U, 20U, 32U}) {
    std::vector<std::uint32_t> words(10'001, 1);
    const Key seed = random_key();
    add_mask(seed, true, bits, words);
    const std::vector<std::uint32_t> masked = words;
    for (const std::uint32_t word : masked) REQUIRE(std::uint64_t{word} < std::uint64_t{1} << bits);
    add_mask(seed, false, bits, words);
    CHECK(words == std::vector<std::uint32_t>(10'001, 1));
    // Other lengths see the same mask.
    std::vector<std::uint32_t> few(5000, 1);
    add_mask(seed, true, bits, few);
    CHECK(std::equal(few.begin(), few.end(), masked.begin()));
  }
  std::vector<std::uint32_t> words(100'000);
  add_mask(random_key(), true, 20, words);
  std::vector<double> counts(256);
  for (const std::uint32_t word : words) ++counts[word >> 12];
  double square = 0;
  for (const double count : counts) square += std::pow(count - 390.625, 2) / 390.625;
  CHECK(square > 170);
  CHECK(square < 350);  // chi-square, 255 degrees of freedom, 1e-4
}

TEST_CASE("ring: symmetric neighbours", "[secure]") {
  for (const auto& [n, k] :
       {std::pair<std::size_t, std::size_t>{1, 0}, {2, 4}, {5, 2}, {6, 4}, {40, 12}, {7, 6}}) {
    const auto all = ring(n, k);
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(all[i].size() == std::min(k, n - 1));
      for (const std::size_t j : all[i]) {
        CHECK(j != i);
        CHECK(std::ranges::binary_search(all[j], i));
      }
    }
  }
}

TEST_CASE("secagg+: neighbours and thresholds of the sheet", "[secure][golden]") {
  struct Row {
    std::size_t n;
    Sparsity a, b, c, d;
  };
  for (const Row& row : {Row{50, {6, 3}, {12, 6}, {16, 11}, {28, 17}},
                         Row{100, {12, 6}, {22, 11}, {32, 21}, {54, 34}},
                         Row{1000, {30, 17}, {48, 27}, {68, 44}, {162, 100}},
                         Row{10'000, {34, 20}, {54, 31}, {80, 51}, {212, 129}},
                         Row{20, {4, 2}, {6, 3}, {8, 5}, {12, 7}}}) {
    INFO(row.n);
    CHECK(sparsity(row.n, 0.05, 0.05) == row.a);
    CHECK(sparsity(row.n, 0.1, 0.1) == row.b);
    CHECK(sparsity(row.n, 0.2, 0.1) == row.c);
    CHECK(sparsity(row.n, 0.33, 0.2) == row.d);
  }
}

TEST_CASE("quantizer: right on average, bounded error, no overflow", "[secure]") {
  const Quantizer quantizer(2, 255, 16);
  CHECK(quantizer.bits() == 12);  // 4080
  CHECK(Quantizer(2, 255, 257).bits() == 16);
  CHECK(Quantizer(2, 1 << 22, 1023).bits() == 32);
  CHECK(Quantizer(2, 1 << 22, 1024).bits() == 0);
  Rng rng(3);
  for (const double value : {-2.0, -1.234, 0.0, 0.5, 1.999, 2.0}) {
    double mean = 0, square = 0;
    constexpr int kDraws = 20'000;
    for (int i = 0; i < kDraws; ++i) {
      const double read = quantizer.decode(quantizer.encode(value, rng), 1);
      mean += read / kDraws;
      square += (read - value) * (read - value) / kDraws;
    }
    CHECK(std::abs(mean - value) <= 3.5 * std::sqrt(square / kDraws) + 1e-12);
    CHECK(std::sqrt(square) <= 2.0 / 255 * 1.000001);
  }
  CHECK(quantizer.encode(1e9, rng) == 255);
  CHECK(quantizer.encode(-1e9, rng) == 0);
}
