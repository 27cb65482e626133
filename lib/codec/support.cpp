#include "codec/detail/support.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

#include "base/assert.hpp"
#include "codec/detail/bits.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/positions.hpp"

namespace fedctl::codec::detail {
namespace {

// Below so many values a rotation sends float32: more bytes than for more values.
constexpr std::size_t kRawMax = 256;

class Support final : public Codec {
 public:
  Support(std::size_t count, double relative, MakeNext next)
      : count_(count), relative_(relative), next_(std::move(next)) {
    FEDCTL_ASSERT(count <= std::numeric_limits<std::uint32_t>::max());
  }

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    const std::size_t values =
        coder_of(count)->max_encoded_bytes(count) + sizeof(float) * std::min(count, kRawMax);
    return sizeof(std::uint32_t) + 1 + packed_bytes(count, 1) + values;
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    const auto least = static_cast<float>(relative_ * largest_magnitude(values));
    std::vector<std::size_t> positions;
    std::vector<float> kept;
    for (std::size_t i = 0; i < count_; ++i) {
      if (values[i] == 0 || std::abs(values[i]) < least) continue;
      positions.push_back(i);
      kept.push_back(values[i]);
    }
    Bytes encoded;
    ByteWriter writer(encoded);
    writer.number(static_cast<std::uint32_t>(kept.size()));
    if (kept.empty()) return encoded;
    const Bytes rice = rice_of(positions);
    const bool bitmap = rice.size() > packed_bytes(count_, 1);
    writer.number(static_cast<std::uint8_t>(bitmap));
    writer.raw(bitmap ? bitmap_of(positions) : rice);
    writer.raw(coder_of(kept.size())->encode(kept, rng));
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    ByteReader reader(encoded);
    const std::size_t kept = reader.number<std::uint32_t>();
    if (kept > count_) {
      throw WireError("a sparse vector of " + std::to_string(count_) + " values keeps " +
                      std::to_string(kept));
    }
    std::fill(out.begin(), out.end(), 0.0F);
    if (kept == 0) return expect_bytes("behind a sparse vector of zeros", encoded, 4);
    const auto form = reader.number<std::uint8_t>();
    if (form > 1) throw WireError("a sparse vector has positions of form " + std::to_string(form));
    ByteView rest = reader.raw(reader.left());
    std::vector<std::size_t> positions;
    if (form == 1) {
      positions = read_bitmap(rest, kept);
    } else {
      const std::array<Chunk, 1> chunk = {{{count_, kept}}};
      positions = read_positions(chunk, rest);
    }
    if ((rice_of(positions).size() > packed_bytes(count_, 1)) != (form == 1)) {
      throw WireError("a sparse vector has the longer form of its positions");
    }
    std::vector<float> values(kept);
    coder_of(kept)->decode(rest, values);
    for (std::size_t i = 0; i < kept; ++i) out[positions[i]] = values[i];
  }

 private:
  std::unique_ptr<Codec> coder_of(std::size_t kept) const {
    const std::array<BlockSize, 1> blocks = {kept};
    return next_(blocks);
  }

  Bytes rice_of(std::span<const std::size_t> positions) const {
    const std::array<Chunk, 1> chunk = {{{count_, positions.size()}}};
    Bytes bytes;
    write_positions(positions, chunk, bytes);
    return bytes;
  }

  Bytes bitmap_of(std::span<const std::size_t> positions) const {
    Bytes bytes(packed_bytes(count_, 1));
    for (const std::size_t at : positions) {
      bytes[at / 8] |= static_cast<std::byte>(1U << (at % 8));
    }
    return bytes;
  }

  std::vector<std::size_t> read_bitmap(ByteView& encoded, std::size_t kept) const {
    ByteReader reader(encoded);
    const ByteView bytes = reader.raw(packed_bytes(count_, 1));
    encoded = encoded.subspan(bytes.size());
    std::vector<std::size_t> positions;
    for (std::size_t at = 0; at < 8 * bytes.size(); ++at) {
      if ((std::to_integer<unsigned>(bytes[at / 8]) >> (at % 8) & 1) == 0) continue;
      if (at >= count_) throw WireError("padding bits are set");
      positions.push_back(at);
    }
    if (positions.size() != kept) {
      throw WireError("a bitmap has " + std::to_string(positions.size()) + " values, expected " +
                      std::to_string(kept));
    }
    return positions;
  }

  std::size_t count_;
  double relative_;
  MakeNext next_;
};

}  // namespace

std::unique_ptr<Codec> make_support(std::size_t count, double relative, MakeNext next) {
  return std::make_unique<Support>(count, relative, std::move(next));
}

}  // namespace fedctl::codec::detail
