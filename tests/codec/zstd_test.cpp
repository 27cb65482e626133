#include <catch2/catch.hpp>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

constexpr std::size_t kCount = 4000;

std::unique_ptr<codec::Codec> chain(double level, const std::string& error_feedback = "none") {
  const config::Kinds& kinds = codec::codec_kinds();
  const std::vector<config::Plugin> stages = {test::plugin(kinds, "quantize"),
                                              test::plugin(kinds, "zstd", {{"level", level}})};
  return codec::make_chain(stages, error_feedback, std::vector<codec::BlockSize>{kCount});
}

// Few values that are not 0, and those in a pattern.
std::vector<float> values() {
  std::vector<float> all(kCount);
  for (std::size_t i = 0; i < kCount; i += 40) all[i] = i % 80 == 0 ? 1.0F : -1.0F;
  return all;
}

Bytes encoded(double level = 3) {
  Rng rng(1);
  return chain(level)->encode(values(), rng);
}

bool refused(const Bytes& bytes) {
  std::vector<float> out(kCount);
  try {
    chain(3)->decode(bytes, out);
  } catch (const WireError&) {
    return true;
  }
  return false;
}

Bytes with(Bytes bytes, std::initializer_list<int> more) {
  for (const int value : more) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

}  // namespace

TEST_CASE("zstd: patterns are found, on every level", "[codec][zstd]") {
  for (const double level : {1, 3, 19}) {
    const Bytes bytes = encoded(level);
    CHECK(bytes.size() < 200);
    CHECK(bytes == encoded(level));
    std::vector<float> out(kCount);
    chain(3)->decode(bytes, out);  // the level is the sender's matter
    CHECK(out == values());
  }
}

TEST_CASE("zstd: frames that are not one whole frame are refused", "[codec][zstd]") {
  const Bytes bytes = encoded();
  REQUIRE(!refused(bytes));
  CHECK(refused({}));
  CHECK(refused(with(bytes, {0})));
  Bytes twice = bytes;
  twice.insert(twice.end(), bytes.begin(), bytes.end());
  CHECK(refused(twice));
  // An empty frame that a reader skips, before and behind.
  const Bytes skippable = with({}, {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0});
  Bytes before = skippable;
  before.insert(before.end(), bytes.begin(), bytes.end());
  CHECK(refused(before));
  CHECK(refused(with(bytes, {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0})));
  for (const unsigned bit : {0x01U, 0x02U, 0x04U, 0x08U, 0x10U}) {
    Bytes flagged = bytes;
    flagged[4] ^= static_cast<std::byte>(bit);
    CHECK(refused(flagged));
    CHECK(refused(with(flagged, {0, 0, 0, 0})));
  }
}

TEST_CASE("zstd: a content larger than the chain's is refused before it is made", "[codec][zstd]") {
  // A frame of 2^60 bytes in its header; and one of 4005 zeros, a byte more than quantize writes.
  CHECK(refused(with({}, {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01, 0, 0})));
  const auto zeros = [](int size) {  // one run-length block
    const int header = size << 3 | 2 | 1;
    const int rest = size - 256;
    return with({}, {0x28, 0xb5, 0x2f, 0xfd, 0x60, rest & 255, rest >> 8, header & 255,
                     (header >> 8) & 255, header >> 16, 0});
  };
  const auto why = [](const Bytes& bytes) -> std::string {
    std::vector<float> out(kCount);
    try {
      chain(3)->decode(bytes, out);
    } catch (const WireError& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(why(zeros(4005)), Catch::Contains("a content of 4005 bytes, expected 1 to 4004"));
  CHECK_THAT(why(zeros(4004)), Catch::Contains("quantize"));  // read, but no codes of that scale
}

TEST_CASE("zstd: error feedback goes around it", "[codec][zstd]") {
  const auto sender = chain(3, "ef14");
  Rng rng(2);
  std::vector<float> input = values(), out(kCount);
  input[1] = 0.3001F;
  const Bytes bytes = sender->encode(input, rng);
  chain(3)->decode(bytes, out);
  std::vector<float> residual(kCount);
  for (std::size_t i = 0; i < kCount; ++i) residual[i] = input[i] - out[i];
  CHECK(sender->state() == residual);
  CHECK(residual[1] != 0);
}
