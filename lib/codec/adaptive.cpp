// auto: uniform cells with a dead zone and centroids, entropy-coded; one knob, 0.02 to 12 bits a
// value or a share of the energy that may be lost.
//
// For normally distributed values this is within 0.25 bit of the rate-distortion bound at any rate,
// better than Lloyd-Max at the same number of bits, and at low rates as good as a ternary code
// (Gish, Pierce, "Asymptotically efficient quantizing", IEEE Trans. IT 14, 1968; measured in
// docs/codecs.md). One step serves the whole vector, which is what the least squared error asks
// for; the entropy coder's tables make up for parts that are larger than others
// (detail/levels.hpp), so nothing is allocated to blocks by hand. There is no rotation: of all
// distributions with one variance the normal one takes the most bits for entropy-coded cells of a
// given size, so a rotation can only lengthen the message (measured, too).
//
// Bytes: nothing for no values, else
//   f32 step           0: all values are 0 and nothing follows
//   i8 x 3             for levels of magnitude 1, 2 and above: by how many 1/220 steps the centroid
//                      is nearer to 0 than the level
//   u8                 low bits a level (bits 0-4), and 128 if there are classes
//   classes            by rans, one below 8 for every 256 values; only if there are
//   for every class    u8 m, the largest magnitude of its levels without their low bits, and unless
//   that occurs        m is 0 the levels + m by rans
//   low bits           of all levels, lowest bit first, zero bits to the end of the byte
//
// With `lgreco` every block has a step of its own: codec/allocated.cpp.
//
// Error: at most that of sending nothing, |x|^2; contractive.

#include "codec/detail/adaptive.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/bits.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/rans.hpp"

namespace fedctl::codec {
namespace {

using detail::kClasses;
using detail::kSegment;

constexpr std::size_t kHeaderBytes = sizeof(float) + 4;
constexpr float kCentroidUnit = 220;
constexpr unsigned kClassesFlag = 128;
constexpr std::size_t kCentroids = 3;
using Centroids = std::array<std::int8_t, kCentroids>;

std::size_t centroid_of(std::int32_t magnitude) {
  return static_cast<std::size_t>(std::min<std::int32_t>(magnitude, kCentroids)) - 1;
}

std::size_t segments_of(std::size_t count) { return (count + kSegment - 1) / kSegment; }

Centroids centroids_of(std::span<const float> values, std::span<const std::int32_t> levels,
                       float step) {
  std::array<double, kCentroids + 1> sums{}, numbers{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::int32_t magnitude = std::abs(levels[i]);
    const auto which = static_cast<std::size_t>(std::min<std::int32_t>(magnitude, kCentroids));
    sums[which] += static_cast<double>(static_cast<float>(magnitude) - std::abs(values[i]) / step);
    ++numbers[which];
  }
  Centroids centroids{};
  for (std::size_t i = 0; i < kCentroids; ++i) {
    if (numbers[i + 1] == 0) continue;
    const double mean = sums[i + 1] / numbers[i + 1];
    centroids[i] = static_cast<std::int8_t>(std::lround(std::clamp(mean * 220, -127.0, 127.0)));
  }
  return centroids;
}

float value_of(std::int32_t level, float step, const Centroids& centroids) {
  if (level == 0) return 0;
  const std::int32_t magnitude = std::abs(level);
  const float nearer = static_cast<float>(centroids[centroid_of(magnitude)]) / kCentroidUnit;
  const float size = (static_cast<float>(magnitude) - nearer) * step;
  return std::copysign(std::min(size, std::numeric_limits<float>::max()),
                       static_cast<float>(level));
}

// Calls use(first, count) for every segment of the class.
template <class Use>
void for_segments(std::span<const std::uint8_t> classes, std::uint8_t which, std::size_t count,
                  Use use) {
  for (std::size_t i = 0; i < classes.size(); ++i) {
    if (classes[i] == which) use(i * kSegment, std::min(kSegment, count - i * kSegment));
  }
}

class Adaptive final : public detail::StepCodec {
 public:
  Adaptive(std::size_t count, detail::Target target) : count_(count), target_(target) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    if (count == 0) return 0;
    constexpr unsigned kAlphabet = 2 * detail::kHighMax + 1;
    return kHeaderBytes + detail::rans_bytes_max(segments_of(count), kClasses) +
           detail::rans_bytes_max(count, kAlphabet) +
           kClasses * (1 + detail::rans_bytes_max(1, kAlphabet)) +
           (count * detail::kLowBitsMax + 7) / 8;
  }

  Bytes encode(std::span<const float> values, Rng&) override {
    FEDCTL_ASSERT(values.size() == count_);
    Bytes message;
    fit(values, 0, message);
    return message;
  }

  float fit(std::span<const float> values, std::size_t beside, Bytes& message) const override {
    const float largest = detail::largest_magnitude(values);
    float step = detail::find_step(values, largest, target_);
    float tried = -1;
    if (target_.distortion == 0) {
      const double wanted = target_.bits_per_value * static_cast<double>(count_);
      step = detail::fit_step(step, largest, wanted, [&](float other) {
        tried = other;
        message = encode_at(values, other);
        return 8 * static_cast<double>(message.size() + beside);
      });
    }
    if (step != tried) message = encode_at(values, step);
    return step;
  }

  Bytes encode_at(std::span<const float> values, float step) const override {
    Bytes encoded;
    if (count_ == 0) return encoded;
    ByteWriter writer(encoded);
    writer.number(step);
    if (step == 0) return encoded;
    std::vector<std::int32_t> levels(count_);
    detail::to_levels(values, step, levels);
    const unsigned low_bits = detail::low_bits_of(levels);
    const bool with_classes = detail::size_of(levels, low_bits).classes;
    for (const std::int8_t centroid : centroids_of(values, levels, step)) writer.number(centroid);
    writer.number(static_cast<std::uint8_t>(low_bits | (with_classes ? kClassesFlag : 0)));

    std::vector<std::uint8_t> classes(segments_of(count_));
    if (with_classes) {
      for (std::size_t i = 0; i < classes.size(); ++i) {
        const std::size_t first = i * kSegment;
        classes[i] = detail::class_of(
            std::span(levels).subspan(first, std::min(kSegment, count_ - first)), low_bits);
      }
      detail::rans_encode(classes, kClasses, encoded);
    }
    for (std::uint8_t which = 0; which < kClasses; ++which) {
      write_class(classes, which, levels, low_bits, encoded);
    }
    if (low_bits > 0) {
      detail::BitWriter bits(encoded);
      const std::uint64_t mask = (std::uint64_t{1} << low_bits) - 1;
      for (const std::int32_t level : levels) {
        bits.number(static_cast<std::uint64_t>(level) & mask, low_bits);
      }
      bits.finish();
    }
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    if (count_ == 0) return detail::expect_bytes("auto", encoded, 0);
    ByteReader reader(encoded);
    const auto step = reader.number<float>();
    if (step == 0 && !std::signbit(step)) {
      std::fill(out.begin(), out.end(), 0.0F);
      return detail::expect_bytes("auto", encoded, sizeof(step));
    }
    if (!std::isnormal(step) || step < 0) throw WireError("auto: the step is no positive number");
    Centroids centroids;
    for (std::int8_t& centroid : centroids) centroid = reader.number<std::int8_t>();
    const auto flags = reader.number<std::uint8_t>();
    const unsigned low_bits = flags & (kClassesFlag - 1);
    if (low_bits > detail::kLowBitsMax) throw WireError("auto: too many low bits");
    ByteView rest = reader.raw(reader.left());
    std::vector<std::uint8_t> classes(segments_of(count_));
    if ((flags & kClassesFlag) != 0) detail::rans_decode(rest, kClasses, classes);

    std::vector<std::int32_t> levels(count_);
    for (std::uint8_t which = 0; which < kClasses; ++which) {
      read_class(classes, which, levels, rest);
    }
    if (low_bits > 0) {
      detail::BitReader bits(rest);
      for (std::int32_t& level : levels) {
        level = (level << low_bits) | static_cast<std::int32_t>(bits.number(low_bits));
      }
      rest = bits.finish();
    }
    detail::expect_bytes("behind the levels of auto", rest, 0);
    restore(levels, step, centroids, low_bits, out);
  }

 private:
  void write_class(std::span<const std::uint8_t> classes, std::uint8_t which,
                   std::span<const std::int32_t> levels, unsigned low_bits, Bytes& out) const {
    std::vector<std::int8_t> high;
    for_segments(classes, which, count_, [&](std::size_t first, std::size_t count) {
      const std::size_t at = high.size();
      high.resize(at + count);
      for (std::size_t i = 0; i < count; ++i) {
        high[at + i] = static_cast<std::int8_t>(levels[first + i] >> low_bits);
      }
    });
    if (high.empty()) return;
    std::int32_t largest = 0;
    for (const std::int8_t level : high) {
      largest = std::max(largest, std::abs(static_cast<std::int32_t>(level)));
    }
    out.push_back(static_cast<std::byte>(largest));
    if (largest == 0) return;
    std::vector<std::uint8_t> symbols(high.size());
    for (std::size_t i = 0; i < high.size(); ++i) {
      symbols[i] = static_cast<std::uint8_t>(high[i] + largest);
    }
    detail::rans_encode(symbols, static_cast<unsigned>(2 * largest + 1), out);
  }

  void read_class(std::span<const std::uint8_t> classes, std::uint8_t which,
                  std::span<std::int32_t> levels, ByteView& rest) const {
    std::size_t total = 0;
    for_segments(classes, which, count_, [&](std::size_t, std::size_t count) { total += count; });
    if (total == 0) return;
    ByteReader reader(rest);
    const std::int32_t largest = reader.number<std::uint8_t>();
    if (largest > detail::kHighMax) throw WireError("auto: a class has levels that are too large");
    rest = rest.subspan(1);
    if (largest == 0) return;
    std::vector<std::uint8_t> symbols(total);
    detail::rans_decode(rest, static_cast<unsigned>(2 * largest + 1), symbols);
    const std::uint8_t* symbol = symbols.data();
    for_segments(classes, which, count_, [&](std::size_t first, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) levels[first + i] = *symbol++ - largest;
    });
  }

  static void restore(std::span<const std::int32_t> levels, float step, const Centroids& centroids,
                      unsigned low_bits, std::span<float> out) {
    if (low_bits > 0) {
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = value_of(levels[i], step, centroids);
    } else {
      std::array<float, 2 * detail::kHighMax + 1> table;
      for (std::int32_t level = -detail::kHighMax; level <= detail::kHighMax; ++level) {
        table[static_cast<std::size_t>(level + detail::kHighMax)] =
            value_of(level, step, centroids);
      }
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = table[static_cast<std::size_t>(levels[i] + detail::kHighMax)];
      }
    }
  }

  std::size_t count_;
  detail::Target target_;
};

struct AdaptiveOptions : config::Options {
  double bits_per_parameter = 1;
  double distortion = 0;
  bool lgreco = false, ablate = false;
  void fields(config::Fields& fields) override {
    fields.real("bits_per_parameter", bits_per_parameter, {.min = 0.02, .max = 12},
                "bits a value on the wire");
    fields.real("distortion", distortion, {.min = 0, .max = 0.99},
                "if above 0, in place of the bits: lost share of the squared norm");
    fields.boolean("lgreco", lgreco,
                   "a step for every parameter: fewer bytes at the same sum of their errors");
    fields.boolean("ablate", ablate, "lgreco: one step for all");
  }
};

}  // namespace

std::unique_ptr<detail::StepCodec> detail::make_adaptive(std::size_t count, Target target) {
  return std::make_unique<Adaptive>(count, target);
}

CodecEntry adaptive() {
  return {
      .kind = {.name = "auto",
               .summary = "uniform cells at any rate from 0.02 to 12 bits, entropy-coded",
               .paper = "Gish, Pierce, IEEE Trans. Inf. Theory 14 (1968); Duda, arXiv 1311.2540",
               .make_options = [] { return std::make_unique<AdaptiveOptions>(); }},
      .promises = {.contractive = true},
      .make = [](const config::Options& options, Blocks blocks) -> std::unique_ptr<Codec> {
        const auto& chosen = dynamic_cast<const AdaptiveOptions&>(options);
        const detail::Target target{chosen.bits_per_parameter, chosen.distortion};
        if (chosen.lgreco && !chosen.ablate) return detail::make_allocated(blocks, target);
        return detail::make_adaptive(detail::value_count(blocks), target);
      }};
}

}  // namespace fedctl::codec
