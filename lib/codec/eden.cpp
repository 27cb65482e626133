// eden: a random rotation (codec/detail/hadamard.hpp), then every value in 1 to 4 bits by the
// quantizer that is best for normal values (Vargaftik, Ben-Basat, Portnoy, Mendelson, Ben-Itzhak,
// Mitzenmacher, "EDEN: communication-efficient and robust distributed mean estimation", ICML 2022).
//
// With r the rotated values of a block and u = r / (root mean square of r), the code is the cell of
// u, lowest first, and stands for its centroid c; decoded is the reverse rotation of f c. Unbiased:
// f = |r|^2 / <c, r>, so <decoded, x> = |x|^2; smallest error: f = <c, r> / |c|^2. With `keep` only
// the first values of every block are coded and the others decode to 0: after a random rotation any
// of them are as good as a random choice, which the paper makes.
//
// Bytes: the seed of the rotation, 8 bytes; f of every block of the rotation, float32; the codes,
// across blocks without a gap, by the coder behind it in the chain; without one `bits` bits each.
//        8 + 4 * blocks + ceil(kept * bits / 8)
// Fewer than 256 values are not rotated; they are float32 and nothing else.
// Error: |decoded - x|^2 / |x|^2 close to 1 / (keep (1 - D)) - 1 if unbiased, else 1 - keep (1 -
// D); D = 0.3634, 0.1175, 0.0345, 0.0095 for 1 to 4 bits. Unbiased as far as the rotation is
// uniform: two rounds show no bias, one does for vectors of few values (tests/codec/eden_test.cpp).

#include "codec/detail/eden.hpp"

#include <array>
#include <cmath>

#include "base/assert.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/float32.hpp"
#include "codec/detail/hadamard.hpp"

namespace fedctl::codec {
namespace {

// Lloyd and Max: centroids of the standard normal law, the positive half; the rest is mirrored.
constexpr std::size_t kHalfMax = 8;
constexpr std::array<std::array<float, kHalfMax>, 4> kCentroids = {
    {{0.7978846F},
     {0.4527800F, 1.5104176F},
     {0.2450942F, 0.7560053F, 1.3439093F, 2.1519457F},
     {0.1283950F, 0.3880482F, 0.6567590F, 0.9423403F, 1.2562309F, 1.6180462F, 2.0690167F,
      2.7325888F}}};

// The decoder refuses larger ones: up to here nothing overflows.
constexpr float kScaleMax = 0x1p110F;

struct Sums {
  double rr = 0;
  double cr = 0;
  double cc = 0;
};

// term(0) + term(1) + ..., in four sums side by side for speed; always the same four.
template <class Term>
double sum_of(std::size_t count, const Term& term) {
  std::array<double, 4> sums{};
  const std::size_t whole = count / 4 * 4;
  for (std::size_t i = 0; i < whole; i += 4) {
    for (std::size_t j = 0; j < 4; ++j) sums[j] += term(i + j);
  }
  for (std::size_t i = whole; i < count; ++i) sums[i - whole] += term(i);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The cell of a magnitude is the number of bounds below it; below 0 cells are counted from the
// other end, which for a power of two of them is a flip of all bits.
template <unsigned kHalf>
void codes_of(std::span<const float> values, const std::array<float, kHalfMax>& bounds,
              std::span<std::uint8_t> codes) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float magnitude = std::abs(values[i]);
    unsigned cell = kHalf;
    for (std::size_t k = 0; k + 1 < kHalf; ++k) cell += magnitude > bounds[k] ? 1U : 0U;
    const unsigned mirror = values[i] < 0 ? 2 * kHalf - 1 : 0;
    codes[i] = static_cast<std::uint8_t>(cell ^ mirror);
  }
}

class Eden final : public Codec {
 public:
  Eden(const detail::EdenPlan& plan, std::size_t count, std::unique_ptr<SymbolCoder> coder)
      : plan_(plan),
        half_(1U << (plan.bits - 1)),
        count_(count),
        rotation_(count, plan.rounds),
        coder_(std::move(coder)) {
    for (const std::size_t size : rotation_.groups()) {
      const auto kept = std::llround(plan.keep * static_cast<double>(size));
      kept_.push_back(std::max<std::size_t>(1, static_cast<std::size_t>(kept)));
      kept_count_ += kept_.back();
    }
    for (unsigned cell = 0; cell < half_; ++cell) {
      levels_[half_ + cell] = kCentroids[plan.bits - 1][cell];
      levels_[half_ - 1 - cell] = -kCentroids[plan.bits - 1][cell];
    }
  }

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    if (!rotation_.turns()) return raw_.max_encoded_bytes(count);
    return sizeof(std::uint64_t) + sizeof(float) * kept_.size() +
           coder_->max_encoded_bytes(kept_count_, 2 * half_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    if (!rotation_.turns()) return raw_.encode(values, rng);
    rotation_.check_input(values);
    Bytes encoded;
    encoded.reserve(max_encoded_bytes(count_));
    ByteWriter writer(encoded);
    const std::uint64_t seed = rng.next_u64();
    writer.number(seed);
    std::vector<float> rotated(values.begin(), values.end());
    rotation_.rotate(rotated, seed);
    std::vector<std::uint8_t> codes(kept_count_);
    std::size_t first = 0, first_code = 0;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      const auto group = std::span(rotated).subspan(first, rotation_.groups()[i]);
      writer.number(encode_group(group, std::span(codes).subspan(first_code, kept_[i])));
      first += group.size();
      first_code += kept_[i];
    }
    coder_->encode(codes, 2 * half_, encoded);
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    if (!rotation_.turns()) return raw_.decode(encoded, out);
    ByteReader reader(encoded);
    const auto seed = reader.number<std::uint64_t>();
    std::vector<float> scales;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      scales.push_back(reader.number<float>());
      if (!(scales.back() <= kScaleMax) || std::signbit(scales.back())) {
        throw WireError("eden: the scale of block " + std::to_string(i) + " is " +
                        std::to_string(scales.back()) + ", expected 0 to 2^110");
      }
    }
    std::vector<std::uint8_t> codes(kept_count_);
    ByteView rest = reader.raw(reader.left());
    coder_->decode(rest, 2 * half_, codes);
    detail::expect_bytes("behind the codes of eden", rest, 0);
    std::size_t first = 0, first_code = 0;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      const auto group = out.subspan(first, rotation_.groups()[i]);
      decode_group(std::span(codes).subspan(first_code, kept_[i]), scales[i], group);
      first += group.size();
      first_code += kept_[i];
    }
    rotation_.unrotate(out, seed);
  }

 private:
  // Fills the codes of the first codes.size() values. The scale, 0 to kScaleMax.
  float encode_group(std::span<const float> group, std::span<std::uint8_t> codes) const {
    Sums sums;
    sums.rr = sum_of(group.size(), [&](std::size_t i) {
      const double value = group[i];
      return value * value;
    });
    const auto unit = static_cast<float>(std::sqrt(sums.rr / static_cast<double>(group.size())));
    std::array<float, kHalfMax> bounds{};
    const auto& centroids = kCentroids[plan_.bits - 1];
    for (unsigned k = 0; k + 1 < half_; ++k) {
      bounds[k] = (centroids[k] + centroids[k + 1]) / 2 * unit;
    }
    const auto kept = group.first(codes.size());
    switch (plan_.bits) {
      case 1:
        codes_of<1>(kept, bounds, codes);
        break;
      case 2:
        codes_of<2>(kept, bounds, codes);
        break;
      case 3:
        codes_of<4>(kept, bounds, codes);
        break;
      default:
        codes_of<8>(kept, bounds, codes);
    }
    sums.cr = sum_of(kept.size(), [&](std::size_t i) {
      return static_cast<double>(levels_[codes[i]]) * static_cast<double>(kept[i]);
    });
    sums.cc = sum_of(kept.size(), [&](std::size_t i) {
      const double level = levels_[codes[i]];
      return level * level;
    });
    const float scale = scale_of(sums);
    if (scale == 0) std::fill(codes.begin(), codes.end(), static_cast<std::uint8_t>(half_));
    return scale;
  }

  // Coded values may all be 0, or so small that f would exceed its bound, when others are not.
  float scale_of(const Sums& sums) const {
    if (sums.cr <= 0) return 0;
    const double smallest_error = sums.cr / sums.cc;
    const double unbiased = sums.rr / sums.cr;
    const bool sound = plan_.unbiased && unbiased <= static_cast<double>(kScaleMax);
    return static_cast<float>(sound ? unbiased : smallest_error);
  }

  void decode_group(std::span<const std::uint8_t> codes, float scale, std::span<float> out) const {
    std::array<float, 2 * kHalfMax> scaled{};
    for (unsigned code = 0; code < 2 * half_; ++code) scaled[code] = levels_[code] * scale;
    if (scale == 0) {
      for (const std::uint8_t code : codes) {
        if (code != half_)
          throw WireError("eden: a block of scale 0 has a code that is not zero's");
      }
    }
    for (std::size_t i = 0; i < codes.size(); ++i) out[i] = scaled[codes[i]];
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(codes.size()), out.end(), 0.0F);
  }

  detail::EdenPlan plan_;
  unsigned half_;  // cells on either side of 0
  std::size_t count_;
  detail::Rotation rotation_;
  std::unique_ptr<SymbolCoder> coder_;
  detail::Float32 raw_;
  std::vector<std::size_t> kept_;  // coded values of each group
  std::size_t kept_count_ = 0;
  std::array<float, 2 * kHalfMax> levels_{};  // of each code
};

struct EdenOptions : config::Options {
  std::int64_t bits = 2;
  double keep = 1;
  bool unbiased = true;
  std::int64_t rounds = 2;
  void fields(config::Fields& fields) override {
    fields.integer("bits", bits, {.min = 1, .max = 4}, "bits a value that is coded");
    fields.real("keep", keep, {.above = 0, .max = 1},
                "share of the rotated values that are coded; below 1 for less than 1 bit a value");
    fields.boolean("unbiased", unbiased, "right on average; false: the smallest error");
    fields.integer("rounds", rounds, {.min = 1, .max = 2}, "rotations in a row");
  }
};

std::unique_ptr<Codec> make_coded(const config::Options& options, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  const auto& eden = dynamic_cast<const EdenOptions&>(options);
  return detail::make_eden({.bits = static_cast<unsigned>(eden.bits),
                            .keep = eden.keep,
                            .unbiased = eden.unbiased,
                            .rounds = static_cast<unsigned>(eden.rounds)},
                           detail::value_count(blocks), std::move(coder));
}

}  // namespace

std::unique_ptr<Codec> detail::make_eden(const EdenPlan& plan, std::size_t count,
                                         std::unique_ptr<SymbolCoder> coder) {
  return std::make_unique<Eden>(plan, count, std::move(coder));
}

CodecEntry eden() {
  return {.kind = {.name = "eden",
                   .summary = "1 to 4 bits a value after a random rotation, unbiased",
                   .paper = "Vargaftik et al., EDEN, ICML 2022 (arXiv 2108.08842)",
                   .make_options = [] { return std::make_unique<EdenOptions>(); }},
          .promises = {.unbiased = true, .contractive = true},
          .promises_with =
              [](const config::Options& options) {
                const auto& own = dynamic_cast<const EdenOptions&>(options);
                const bool small_error = own.bits > 1 && own.keep == 1;
                return Promises{.unbiased = own.unbiased,
                                .contractive = !own.unbiased || small_error};
              },
          .make_coded = make_coded};
}

}  // namespace fedctl::codec
