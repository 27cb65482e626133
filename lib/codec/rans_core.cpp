#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "base/assert.hpp"
#include "codec/detail/entropy.hpp"
#include "codec/detail/rans.hpp"

namespace fedctl::codec::detail {
namespace {

constexpr unsigned kBits = 14;
constexpr std::uint32_t kTotal = 1U << kBits;
constexpr std::uint32_t kLow = 1U << 16;  // states are at least this
constexpr std::size_t kStates = 4;
constexpr std::uint64_t kShortBits = 4096;

using Frequencies = std::array<std::uint32_t, 256>;

// Rounded down but not to 0; the most frequent number, the first of equals, takes the difference.
Frequencies frequencies_of(std::span<const std::uint8_t> symbols) {
  Frequencies counts{}, frequencies{};
  for (const std::uint8_t symbol : symbols) ++counts[symbol];
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const std::uint64_t scaled = std::uint64_t{counts[i]} * kTotal / symbols.size();
    frequencies[i] = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(scaled));
    sum += frequencies[i];
  }
  // At most 255 numbers were raised to 1, and the most frequent one has at least 64.
  frequencies[static_cast<std::size_t>(std::ranges::max_element(counts) - counts.begin())] +=
      kTotal - sum;
  return frequencies;
}

// The states in use: one if the numbers take few bits by the table, since each costs three bytes.
std::size_t state_count(const Frequencies& frequencies, std::size_t count) {
  const std::uint64_t bits_q16 = entropy_q16(frequencies) / kTotal * count;
  return bits_q16 < kShortBits << 16 ? 1 : kStates;
}

Frequencies starts_of(const Frequencies& frequencies) {
  Frequencies starts{};
  for (std::size_t i = 1; i < starts.size(); ++i) starts[i] = starts[i - 1] + frequencies[i - 1];
  return starts;
}

Frequencies read_table(ByteReader& reader, unsigned alphabet) {
  Frequencies frequencies{};
  std::uint32_t sum = 0;
  for (unsigned i = 0; i < alphabet; ++i) {
    const std::uint64_t frequency = reader.varint();
    if (frequency > kTotal - sum) throw WireError("rans: the frequencies exceed their sum");
    frequencies[i] = static_cast<std::uint32_t>(frequency);
    sum += frequencies[i];
  }
  if (sum != kTotal) throw WireError("rans: the frequencies fall short of their sum");
  return frequencies;
}

// What the reader looks up: 17 KiB, so that it stays in the first cache.
struct Lookup {
  std::array<std::uint8_t, kTotal> symbols;  // of a slot
  struct Range {
    std::uint16_t frequency, start;
  };
  std::array<Range, 256> ranges;
};

std::unique_ptr<Lookup> lookup_of(const Frequencies& frequencies) {
  auto lookup = std::make_unique<Lookup>();
  const Frequencies starts = starts_of(frequencies);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    lookup->ranges[i] = {static_cast<std::uint16_t>(frequencies[i]),
                         static_cast<std::uint16_t>(starts[i])};
    std::fill_n(lookup->symbols.begin() + starts[i], frequencies[i], static_cast<std::uint8_t>(i));
  }
  return lookup;
}

std::uint8_t take(const Lookup& lookup, std::uint32_t& x) {
  const std::uint32_t slot = x & (kTotal - 1);
  const std::uint8_t symbol = lookup.symbols[slot];
  const Lookup::Range range = lookup.ranges[symbol];
  x = range.frequency * (x >> kBits) + slot - range.start;
  return symbol;
}

// Codes from the last number to the first, the words from the end of their row; where they begin.
template <std::size_t kUsed>
std::uint16_t* put(std::span<const std::uint8_t> symbols, const Frequencies& frequencies,
                   std::array<std::uint32_t, kStates>& states, std::uint16_t* word) {
  const Frequencies starts = starts_of(frequencies);
  for (std::size_t i = symbols.size(); i-- > 0;) {
    std::uint32_t& x = states[i % kUsed];
    const std::uint32_t frequency = frequencies[symbols[i]];
    if (x >= frequency << (32 - kBits)) {
      *--word = static_cast<std::uint16_t>(x);
      x >>= 16;
    }
    x = ((x / frequency) << kBits) + x % frequency + starts[symbols[i]];
  }
  return word;
}

std::uint16_t word_at(const std::byte* at) {
  std::uint16_t word = 0;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

}  // namespace

std::size_t rans_bytes_max(std::size_t count, unsigned alphabet) {
  if (count == 0) return 0;
  return 2 * std::size_t{alphabet} + 1 + kStates * sizeof(std::uint32_t) + (count * kBits + 7) / 8 +
         2;
}

void rans_encode(std::span<const std::uint8_t> symbols, unsigned alphabet, Bytes& out) {
  FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
  if (symbols.empty()) return;
  const Frequencies frequencies = frequencies_of(symbols);
  ByteWriter writer(out);
  for (unsigned i = 0; i < alphabet; ++i) writer.varint(frequencies[i]);
  if (std::ranges::find(frequencies, kTotal) != frequencies.end()) return;

  std::vector<std::uint16_t> words(symbols.size() + 1);  // at most one a number; from the end
  std::uint16_t* const end = words.data() + words.size();
  std::array<std::uint32_t, kStates> states;
  states.fill(kLow);
  const std::size_t used = state_count(frequencies, symbols.size());
  const std::uint16_t* const word = used == 1 ? put<1>(symbols, frequencies, states, end)
                                              : put<kStates>(symbols, frequencies, states, end);
  for (std::size_t k = 0; k < used; ++k) writer.number(states[k]);
  writer.raw(std::as_bytes(std::span(word, end)));
}

void rans_decode(ByteView& encoded, unsigned alphabet, std::span<std::uint8_t> symbols) {
  FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
  if (symbols.empty()) return;
  ByteReader reader(encoded);
  const Frequencies frequencies = read_table(reader, alphabet);
  const auto all = std::ranges::find(frequencies, kTotal);
  if (all != frequencies.end()) {
    std::ranges::fill(symbols, static_cast<std::uint8_t>(all - frequencies.begin()));
    encoded = encoded.subspan(encoded.size() - reader.left());
    return;
  }
  const std::unique_ptr<Lookup> lookup = lookup_of(frequencies);
  const std::size_t used = state_count(frequencies, symbols.size());
  std::array<std::uint32_t, kStates> states;
  states.fill(kLow);
  for (std::size_t k = 0; k < used; ++k) {
    states[k] = reader.number<std::uint32_t>();
    if (states[k] < kLow) throw WireError("rans: a state is too small");
  }
  const std::size_t header = encoded.size() - reader.left();
  const std::byte* at = encoded.data() + header;
  const std::byte* const end = encoded.data() + encoded.size();
  std::size_t i = 0;
  // As long as every state may take a word without a look at the end.
  for (; used == kStates && i + kStates <= symbols.size() && end - at >= 8; i += kStates) {
    for (std::size_t k = 0; k < kStates; ++k) {
      std::uint32_t x = states[k];
      symbols[i + k] = take(*lookup, x);
      const bool short_of = x < kLow;
      states[k] = short_of ? (x << 16) | word_at(at) : x;
      at += short_of ? 2 : 0;
    }
  }
  for (; i < symbols.size(); ++i) {
    std::uint32_t& x = states[i & (used - 1)];
    symbols[i] = take(*lookup, x);
    if (x >= kLow) continue;
    if (end - at < 2) throw WireError("rans: the numbers end early");
    x = (x << 16) | word_at(at);
    at += 2;
  }
  for (const std::uint32_t state : states) {
    if (state != kLow) throw WireError("rans: the numbers do not end where they began");
  }
  if (frequencies_of(symbols) != frequencies) {
    throw WireError("rans: the frequencies are not those of the numbers");
  }
  encoded = encoded.subspan(static_cast<std::size_t>(at - encoded.data()));
}

}  // namespace fedctl::codec::detail
