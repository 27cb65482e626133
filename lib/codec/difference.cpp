#include "codec/difference.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "codec/detail/checks.hpp"
#include "codec/error_feedback.hpp"

namespace fedctl::codec {
namespace {

// 1 to 2^24 - 1.
std::uint32_t next_stamp(std::uint32_t stamp, ByteView encoded) {
  Digest digest;
  digest.add(std::as_bytes(std::span(&stamp, 1))).add(encoded);
  const auto bytes = digest.bytes();
  std::uint32_t word = 0;
  std::memcpy(&word, bytes.data(), sizeof(word));
  return 1 + word % ((1U << 24) - 1);
}

float contraction_of(std::span<const float> wanted, std::span<const float> sent) {
  double norm = 0, lost = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    norm += static_cast<double>(wanted[i]) * wanted[i];
    lost += std::pow(static_cast<double>(wanted[i]) - sent[i], 2);
  }
  return norm > 0 ? static_cast<float>(std::clamp(1 - lost / norm, 0.0, 1.0)) : 1;
}

ErrorFeedbackEntry entry(std::string name, std::string summary, std::string paper, double eta) {
  return {.name = std::move(name),
          .summary = std::move(summary),
          .paper = std::move(paper),
          .both_sides = true,
          .wrap = [eta](std::unique_ptr<Codec> inner, std::size_t count) {
            return std::make_unique<Difference>(std::move(inner), count, eta);
          }};
}

}  // namespace

Difference::Difference(std::unique_ptr<Codec> inner, std::size_t count, double eta)
    : inner_(std::move(inner)), count_(count), eta_(eta), start_(count), now_(fresh()) {
  FEDCTL_ASSERT(eta == kMeasured || (eta >= 0 && eta <= 1));
}

Difference::Memory Difference::fresh() const {
  Memory memory;
  memory.decoded = start_;
  if (eta_ != 0) memory.error.resize(count_);
  return memory;
}

std::size_t Difference::max_encoded_bytes(std::size_t count) const {
  return sizeof(std::uint32_t) + inner_->max_encoded_bytes(count);
}

// Throws before the memory changes.
Bytes Difference::encode(std::span<const float> values, Rng& rng) {
  FEDCTL_ASSERT(values.size() == count_);
  const auto eta = static_cast<float>(eta_ == kMeasured ? now_.contraction / 4 : eta_);
  std::vector<float> wanted(values.begin(), values.end());
  for (std::size_t i = 0; i < count_; ++i) wanted[i] -= now_.decoded[i];
  std::vector<float> error = now_.error;
  for (std::size_t i = 0; i < error.size(); ++i) {
    const float fed_back = eta * error[i];
    error[i] += wanted[i];
    wanted[i] += fed_back;
  }
  const Bytes inner = inner_->encode(wanted, rng);
  std::vector<float> sent(count_);
  inner_->decode(inner, sent);

  Memory next;
  next.stamp = next_stamp(now_.stamp, inner);
  const float measured = contraction_of(wanted, sent);
  next.contraction = now_.stamp == 0 ? measured : std::min(now_.contraction, measured);
  next.decoded = now_.decoded;
  for (std::size_t i = 0; i < count_; ++i) next.decoded[i] += sent[i];
  for (std::size_t i = 0; i < error.size(); ++i) error[i] -= sent[i];
  next.error = std::move(error);
  detail::largest_magnitude(next.decoded);
  detail::largest_magnitude(next.error);

  Bytes encoded(sizeof(now_.stamp) + inner.size());
  std::memcpy(encoded.data(), &now_.stamp, sizeof(now_.stamp));
  std::ranges::copy(inner, encoded.begin() + sizeof(now_.stamp));
  before_ = std::exchange(now_, std::move(next));
  return encoded;
}

void Difference::decode(ByteView encoded, std::span<float> out) const {
  FEDCTL_ASSERT(out.size() == count_);
  ByteReader reader(encoded);
  const auto base = reader.number<std::uint32_t>();
  if (base != 0 && base != now_.stamp) {
    throw WireError("the difference to state " + std::to_string(base) + ", this side has state " +
                    std::to_string(now_.stamp));
  }
  inner_->decode(reader.raw(reader.left()), out);
  const std::vector<float>& known = base == 0 ? start_ : now_.decoded;
  for (std::size_t i = 0; i < count_; ++i) out[i] += known[i];
  detail::largest_magnitude(out);
}

void Difference::received(ByteView encoded, std::span<const float> decoded) {
  FEDCTL_ASSERT(decoded.size() == count_);
  ByteReader reader(encoded);
  const auto base = reader.number<std::uint32_t>();
  now_.stamp = next_stamp(base, reader.raw(reader.left()));
  now_.decoded.assign(decoded.begin(), decoded.end());
}

void Difference::synchronise(std::uint32_t known) {
  if (known != now_.stamp) {
    now_ = before_ && before_->stamp == known ? std::move(*before_) : fresh();
  }
  before_.reset();
}

void Difference::start_from(std::span<const float> values) {
  FEDCTL_ASSERT(values.size() == count_ && now_.stamp == 0);
  start_.assign(values.begin(), values.end());
  now_ = fresh();
}

std::vector<float> Difference::state() const {
  std::vector<float> state = {static_cast<float>(now_.stamp), now_.contraction};
  state.insert(state.end(), now_.decoded.begin(), now_.decoded.end());
  state.insert(state.end(), now_.error.begin(), now_.error.end());
  return state;
}

void Difference::restore(std::span<const float> state) {
  Memory memory = fresh();
  if (state.size() != 2 + memory.decoded.size() + memory.error.size()) {
    throw WireError("a difference codec's state of " + std::to_string(state.size()) +
                    " values, expected " +
                    std::to_string(2 + memory.decoded.size() + memory.error.size()));
  }
  detail::largest_magnitude(state);
  if (state[0] < 0 || state[0] >= 0x1p24F || state[0] != std::floor(state[0]) || state[1] < 0 ||
      state[1] > 1) {
    throw WireError("a difference codec's state has no valid stamp and contraction");
  }
  memory.stamp = static_cast<std::uint32_t>(state[0]);
  memory.contraction = state[1];
  const auto values = state.subspan(2);
  std::copy_n(values.begin(), count_, memory.decoded.begin());
  std::copy(values.begin() + static_cast<std::ptrdiff_t>(count_), values.end(),
            memory.error.begin());
  now_ = std::move(memory);
  before_.reset();
}

ErrorFeedbackEntry ef21() {
  return entry("ef21", "codes the change since the last message; both sides remember it",
               "Richtarik, Sokolov, Fatkhullin, NeurIPS 2021 (arXiv 2106.05203)", 0);
}

ErrorFeedbackEntry econtrol() {
  return entry("econtrol", "ef21 and a measured share of the error so far",
               "Gao, Islamov, Stich, ICLR 2024 (arXiv 2311.05645)", Difference::kMeasured);
}

}  // namespace fedctl::codec
