// rotate: a random rotation (codec/detail/hadamard.hpp) in front of a quantizer. Whatever the law
// of the values was, those of a block are then close to normal with one variance: no value sets the
// scale of many small ones (Suresh, Yu, Kumar, McMahan, ICML 2017).
//
// Bytes: the seed of the rotation, 8 bytes, then the rotated values as the codec behind this one
// codes them, in blocks of the rotation (float32 if there is none). Fewer than 256 values are not
// rotated and have no seed.
// Error: that of the codec behind it, in the 2-norm; a relative 2^-22 of the norm by rounding.

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/hadamard.hpp"

namespace fedctl::codec {
namespace {

class Rotate final : public Codec {
 public:
  Rotate(std::size_t count, unsigned rounds, const MakeNext& next)
      : count_(count), rotation_(count, rounds) {
    const std::vector<BlockSize> blocks(rotation_.groups().begin(), rotation_.groups().end());
    next_ = next(blocks);
  }

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    return (rotation_.turns() ? sizeof(std::uint64_t) : 0) + next_->max_encoded_bytes(count);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    rotation_.check_input(values);
    if (!rotation_.turns()) return next_->encode(values, rng);
    Bytes encoded;
    ByteWriter writer(encoded);
    const std::uint64_t seed = rng.next_u64();
    writer.number(seed);
    std::vector<float> rotated(values.begin(), values.end());
    rotation_.rotate(rotated, seed);
    writer.raw(next_->encode(rotated, rng));
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    if (!rotation_.turns()) return next_->decode(encoded, out);
    ByteReader reader(encoded);
    const auto seed = reader.number<std::uint64_t>();
    next_->decode(reader.raw(reader.left()), out);
    if (detail::largest_magnitude(out) > detail::Rotation::kMagnitudeMax) {
      throw WireError("rotate: a rotated value is too large");
    }
    rotation_.unrotate(out, seed);
  }

  std::vector<float> state() const override { return next_->state(); }
  void restore(std::span<const float> state) override { next_->restore(state); }

 private:
  std::size_t count_;
  detail::Rotation rotation_;
  std::unique_ptr<Codec> next_;
};

struct RotateOptions : config::Options {
  std::int64_t rounds = 2;
  void fields(config::Fields& fields) override {
    fields.integer(
        "rounds", rounds, {.min = 1, .max = 2},
        "rotations in a row; 2 for vectors of few large values, as LoRA's B is at first");
  }
};

std::unique_ptr<Codec> make_before(const config::Options& options, Blocks blocks,
                                   const MakeNext& next) {
  const auto rounds = dynamic_cast<const RotateOptions&>(options).rounds;
  return std::make_unique<Rotate>(detail::value_count(blocks), static_cast<unsigned>(rounds), next);
}

}  // namespace

CodecEntry rotate() {
  return {.kind = {.name = "rotate",
                   .summary = "a random rotation: any values look normally distributed",
                   .paper = "Suresh et al., ICML 2017 (arXiv 1611.00429)",
                   .make_options = [] { return std::make_unique<RotateOptions>(); }},
          .stage = Stage::transform,
          .promises = {.linear = true, .unbiased = true, .contractive = true},
          .make_before = make_before};
}

}  // namespace fedctl::codec
