// What every codec and every chain must do, whatever it is.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

// The error a chain may make, from the promises of its stages: nothing decodes to more than the
// vector holds, and unless a quantizer's noise is in it, nothing gets farther from x than 0 is.
bool contractive(const test::Chain& chain) { return codec::promises_of(chain.stages).contractive; }

// After a rotation or in a factor one value may hold what many held, and an unbiased scale is
// longer than |x|.
bool mixes(const test::Chain& chain) {
  return std::any_of(chain.stages.begin(), chain.stages.end(), [](const config::Plugin& stage) {
    return stage.kind == "rotate" || stage.kind == "powersgd" || stage.kind == "eden" ||
           stage.kind == "drive";
  });
}

// How far beyond the largest magnitude a chain may decode, by the nature of its stages.
double growth(const test::Chain& chain, std::size_t count) {
  double factor = 1 + 0x1p-8;
  for (const config::Plugin& stage : chain.stages) {
    if (stage.kind == "natural") factor *= 2;
    if (stage.kind == "logbyte") factor *= std::exp(0.125);
    if (stage.kind == "randk" || stage.kind == "countsketch") factor *= static_cast<double>(count);
    if (stage.kind == "qsgd") factor *= std::sqrt(static_cast<double>(count));
  }
  return factor;
}

std::vector<float> normal_values(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

std::vector<codec::BlockSize> some_blocks(std::size_t count) {
  if (count < 3) return {count};
  return {1, {count / 2, 25}, count - count / 2 - 1};
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return std::isfinite(value); });
}

// Decodes bytes that may be anything. False if they were refused.
bool decodes_to_finite(const codec::Codec& codec, ByteView bytes, std::size_t count) {
  // On the heap and of the exact size, so that the sanitizers see a read beyond the end.
  const Bytes copy(bytes.begin(), bytes.end());
  std::vector<float> out(count);
  try {
    codec.decode(copy, out);
  } catch (const WireError&) {
    return false;
  }
  REQUIRE(all_finite(out));
  return true;
}

}  // namespace

TEST_CASE("the registry is sorted and described", "[codec][conformance]") {
  std::string previous;
  for (const codec::CodecEntry& entry : codec::codecs()) {
    CHECK(previous < entry.kind.name);
    previous = entry.kind.name;
    CHECK(!entry.kind.summary.empty());
    CHECK(!entry.kind.paper.empty());
    using codec::Stage;
    CHECK(static_cast<bool>(entry.make) == (entry.stage <= Stage::quantizer));
    CHECK(static_cast<bool>(entry.make_before) == (entry.stage < Stage::quantizer));
    CHECK((!entry.make_coded || entry.stage == Stage::quantizer));
    CHECK(static_cast<bool>(entry.make_coder) == (entry.stage == Stage::coder));
    CHECK(static_cast<bool>(entry.make_around) == (entry.stage == Stage::squeezer));
  }
  CHECK(codec::codec_kinds().size() == codec::codecs().size());
  CHECK(codec::error_feedback_names().front() == "none");
}

TEST_CASE("every chain makes the round trip", "[codec][conformance]") {
  const std::size_t count = GENERATE(as<std::size_t>{}, 0, 1, 2, 9, 64, 1000);
  for (const test::Chain& chain : test::all_chains()) {
    INFO(chain.name << ", " << count << " values");
    const std::vector<float> values = normal_values(count, 1);
    const auto sender = chain.make(some_blocks(count));
    const auto receiver = chain.make(some_blocks(count));
    Rng rng(2);
    const Bytes encoded = sender->encode(values, rng);
    CHECK(encoded.size() <= sender->max_encoded_bytes(count));
    std::vector<float> out(count, std::numeric_limits<float>::quiet_NaN());
    receiver->decode(encoded, out);
    REQUIRE(all_finite(out));
    double error = 0, norm = 0, largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
      error += std::pow(out[i] - values[i], 2);
      norm += std::pow(values[i], 2);
      largest = std::max(largest, std::abs(static_cast<double>(values[i])));
    }
    const double bound = (mixes(chain) ? 1.5 * std::sqrt(norm) : largest) * growth(chain, count);
    for (const float value : out) CHECK(std::abs(value) <= bound);
    if (contractive(chain)) CHECK(error <= norm);
  }
}

TEST_CASE("two fresh instances with one seed give the same bytes", "[codec][conformance]") {
  for (const test::Chain& chain : test::all_chains()) {
    INFO(chain.name);
    const auto one = chain.make({300, 200});
    const auto other = chain.make({300, 200});
    Rng rng(3), same(3);
    for (std::uint64_t round = 0; round < 3; ++round) {
      const auto values = normal_values(500, round);
      CHECK(one->encode(values, rng) == other->encode(values, same));
    }
    CHECK(one->state() == other->state());
    CHECK(rng.next_u64() == same.next_u64());
  }
}

TEST_CASE("zeros, ties and extremes make the round trip", "[codec][conformance]") {
  constexpr float kLargest = std::numeric_limits<float>::max();
  constexpr float kSmallest = std::numeric_limits<float>::denorm_min();
  const std::vector<std::vector<float>> cases = {
      std::vector<float>(17, 0.0F),     std::vector<float>(17, -0.0F),
      std::vector<float>(17, 1.5F),     {kLargest, -kLargest, 0, 1},
      {kSmallest, -kSmallest, 0, 0, 0}, {1, -1, kSmallest, 65504, 65520}};
  for (const test::Chain& chain : test::all_chains()) {
    for (const std::vector<float>& values : cases) {
      INFO(chain.name << ", first value " << values[0]);
      const auto codec = chain.make({values.size()});
      const auto receiver = chain.make({values.size()});
      Rng rng(4);
      for (int round = 0; round < 3; ++round) {
        // Error feedback may overflow on values at the edge of float; that is refused, not sent.
        if (round > 0 && values[0] == kLargest) break;
        const Bytes encoded = codec->encode(values, rng);
        CHECK(encoded.size() <= codec->max_encoded_bytes(values.size()));
        std::vector<float> out(values.size());
        receiver->decode(encoded, out);
        receiver->received(encoded, out);
        CHECK(all_finite(out));
        CHECK(codec->stamp() == receiver->stamp());
      }
    }
  }
}

TEST_CASE("a million values make the round trip", "[codec][conformance]") {
  const std::size_t count = 1'000'000;
  const auto values = normal_values(count, 5);
  for (const test::Chain& chain : test::all_chains()) {
    // The others take a minute.
    if (chain.stages.size() > 2 || chain.error_feedback != "none") continue;
    INFO(chain.name);
    const auto codec = chain.make({count});
    Rng rng(6);
    const Bytes encoded = codec->encode(values, rng);
    CHECK(encoded.size() <= codec->max_encoded_bytes(count));
    CHECK(decodes_to_finite(*chain.make({count}), encoded, count));
  }
}

TEST_CASE("values that are not finite are refused and change nothing", "[codec][conformance]") {
  for (const test::Chain& chain : test::all_chains()) {
    INFO(chain.name);
    const auto codec = chain.make({4, 6});
    Rng rng(7);
    codec->encode(normal_values(10, 8), rng);
    const auto before = codec->state();
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      for (const std::size_t at : std::vector<std::size_t>{0, 5, 9}) {
        auto values = normal_values(10, 8);
        values[at] = bad;
        CHECK_THROWS_AS(codec->encode(values, rng), WireError);
      }
    }
    CHECK(codec->state() == before);
  }
}

TEST_CASE("truncated, extended and flipped bytes are refused or decode to finite values",
          "[codec][conformance][property]") {
  const std::size_t count = GENERATE(as<std::size_t>{}, 0, 1, 7, 64, 300);
  for (const test::Chain& chain : test::all_chains()) {
    if (chain.error_feedback != "none") continue;  // decodes as the chain inside it
    INFO(chain.name << ", " << count << " values");
    const auto codec = chain.make(some_blocks(count));
    Rng rng(9);
    const Bytes encoded = codec->encode(normal_values(count, 10), rng);
    for (std::size_t size = 0; size < encoded.size(); ++size) {
      CHECK(!decodes_to_finite(*codec, ByteView(encoded).first(size), count));
    }
    Bytes longer = encoded;
    longer.push_back(std::byte{0});
    CHECK(!decodes_to_finite(*codec, longer, count));
    if (encoded.empty()) continue;
    for (int trial = 0; trial < 400; ++trial) {
      Bytes flipped = encoded;
      for (std::uint64_t flips = 1 + rng.below(3); flips > 0; --flips) {
        flipped[rng.below(flipped.size())] ^= static_cast<std::byte>(1U << rng.below(8));
      }
      decodes_to_finite(*codec, flipped, count);
    }
    Bytes noise(encoded.size());
    for (int trial = 0; trial < 100; ++trial) {
      for (std::byte& byte : noise) byte = static_cast<std::byte>(rng.next_u32());
      decodes_to_finite(*codec, noise, count);
    }
  }
}

TEST_CASE("what a codec promises to be unbiased is right on average", "[codec][conformance]") {
  constexpr int kRounds = 4000;
  for (const codec::CodecEntry& entry : codec::codecs()) {
    if (!entry.make) continue;
    for (const config::Plugin& stage : test::variants(entry)) {
      if (!codec::promises_of({stage}).unbiased) continue;
      INFO(entry.kind.name);
      const auto values = normal_values(50, 11);
      const auto codec = test::Chain{entry.kind.name, {stage}}.make({20, 30});
      Rng rng(12);
      std::vector<double> sums(50), squares(50);
      std::vector<float> out(50);
      for (int round = 0; round < kRounds; ++round) {
        codec->decode(codec->encode(values, rng), out);
        for (std::size_t i = 0; i < 50; ++i) {
          sums[i] += out[i];
          squares[i] += std::pow(out[i] - values[i], 2);
        }
      }
      for (std::size_t i = 0; i < 50; ++i) {
        // Five standard errors of the mean: 50 checks fail by chance once in 30,000 seeds.
        const double spread = std::sqrt(squares[i] / kRounds / kRounds);
        CHECK(sums[i] / kRounds == Approx(values[i]).margin(5 * spread + 1e-5));
      }
    }
  }
}

TEST_CASE("error feedback goes on where its state was saved", "[codec][conformance]") {
  for (const test::Chain& chain : test::all_chains()) {
    INFO(chain.name);
    const auto straight = chain.make({80});
    auto broken = chain.make({80});
    Rng rng(13), same(13);
    for (std::uint64_t round = 0; round < 6; ++round) {
      if (round == 3) {
        const auto state = broken->state();
        broken = chain.make({80});
        broken->restore(state);
      }
      const auto values = normal_values(80, 100 + round);
      CHECK(straight->encode(values, rng) == broken->encode(values, same));
    }
  }
}
