#include "secure/masks.hpp"

#include <sodium/crypto_stream_chacha20.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/assert.hpp"

namespace fedctl::secure {
namespace {

double log_choose(double n, double k) {
  return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
}
// Chance of x marked ones among k drawn of n with `marked`.
double hypergeometric(std::size_t n, std::size_t marked, std::size_t k, std::size_t x) {
  if (x > marked || x > k || k - x > n - marked) return 0;
  const auto d = [](std::size_t value) { return static_cast<double>(value); };
  return std::exp(log_choose(d(marked), d(x)) + log_choose(d(n - marked), d(k - x)) -
                  log_choose(d(n), d(k)));
}

}  // namespace

void add_mask(const Key& seed, bool plus, unsigned bits, std::span<std::uint32_t> words) {
  FEDCTL_ASSERT(bits >= 1 && bits <= 32);
  const std::uint32_t keep = bits == 32 ? ~0U : (1U << bits) - 1;
  constexpr std::size_t kChunk = 4096;  // words; a multiple of ChaCha20's block
  std::array<std::uint32_t, kChunk> mask;
  const std::array<unsigned char, crypto_stream_chacha20_ietf_NONCEBYTES> nonce{};
  for (std::size_t first = 0; first < words.size(); first += kChunk) {
    const auto chunk = words.subspan(first, std::min(kChunk, words.size() - first));
    mask.fill(0);
    auto* const bytes = reinterpret_cast<unsigned char*>(mask.data());
    crypto_stream_chacha20_ietf_xor_ic(bytes, bytes, 4 * chunk.size(), nonce.data(),
                                       static_cast<std::uint32_t>(first / 16),
                                       reinterpret_cast<const unsigned char*>(seed.data()));
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      chunk[i] = (plus ? chunk[i] + mask[i] : chunk[i] - mask[i]) & keep;
    }
  }
}

std::vector<std::vector<std::size_t>> ring(std::size_t n, std::size_t k) {
  std::vector<std::vector<std::size_t>> all(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (k + 1 >= n) {
      for (std::size_t j = 0; j < n; ++j) {
        if (j != i) all[i].push_back(j);
      }
      continue;
    }
    for (std::size_t step = 1; step <= k / 2; ++step) {
      all[i].push_back((i + step) % n);
      all[i].push_back((i + n - step) % n);
    }
    std::ranges::sort(all[i]);
    all[i].erase(std::unique(all[i].begin(), all[i].end()), all[i].end());
  }
  return all;
}

Sparsity sparsity(std::size_t n, double corrupt, double dropout) {
  const Sparsity complete{n - 1, (n - 1) / 2 + 1};
  const auto part = [&](double share) {
    return static_cast<std::size_t>(std::floor(share * static_cast<double>(n)));
  };
  const std::size_t bad = part(corrupt), gone = bad + part(dropout);
  const auto survivors =
      static_cast<std::size_t>(std::ceil((1 - dropout) * static_cast<double>(n)));
  const double many = std::ldexp(1.0, -41) / static_cast<double>(n);
  const double few = std::ldexp(1.0, -20) / static_cast<double>(n);
  const auto d = [](std::size_t value) { return static_cast<double>(value); };
  for (std::size_t k = 2; k + 1 < n; k += 2) {
    if (k <= gone) {
      const double apart = std::log(d(n) * d(n - k - 1) / 2) + std::lgamma(d(gone) + 1) +
                           std::lgamma(d(n - k) + 1) - std::lgamma(d(n) + 1) -
                           std::lgamma(d(gone - k) + 1);
      if (!(apart < -41 * std::log(2))) continue;
    }
    // The smallest t1 with Pr[bad neighbours > t1] <= many.
    std::size_t t1 = k;
    for (double tail = 0; t1 > 0; --t1) {
      tail += hypergeometric(n, bad, k, t1);
      if (tail > many) break;
    }
    // The largest t2 with Pr[surviving neighbours < t2] <= few.
    std::size_t t2 = 0;
    for (double tail = 0; t2 <= k; ++t2) {
      tail += hypergeometric(n, survivors, k, t2);
      if (tail > few) break;
    }
    if (t2 > t1) return {k, std::max<std::size_t>(t1 + 1, 2)};
  }
  return complete;
}

unsigned Quantizer::bits() const {
  const double most = static_cast<double>(levels_) * static_cast<double>(clients_);
  if (most >= 0x1p32) return 0;
  return static_cast<unsigned>(std::bit_width(static_cast<std::uint64_t>(levels_) * clients_));
}

std::uint32_t Quantizer::encode(double value, Rng& rng) const {
  const double q = static_cast<double>(levels_);
  const double level = (std::clamp(value, -clip_, clip_) + clip_) * q / (2 * clip_);
  const double low = std::floor(level);
  return static_cast<std::uint32_t>(
      std::min(q, low + (rng.uniform_double() < level - low ? 1 : 0)));
}

double Quantizer::decode(std::uint64_t sum, std::size_t count) const {
  return static_cast<double>(sum) * 2 * clip_ / static_cast<double>(levels_) -
         static_cast<double>(count) * clip_;
}

}  // namespace fedctl::secure
