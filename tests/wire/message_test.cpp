#include "wire/message.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <optional>

#include "base/rng.hpp"
#include "wire/owned.hpp"

using namespace fedctl;
using namespace fedctl::wire;

namespace {

Message sample() {
  const std::vector<float> values{1.5F, -2.0F, 0.25F};
  const std::vector<std::int64_t> tokens{7, -1};
  Message message = Message("update")
                        .with("examples", std::int64_t{41})
                        .with("loss", 0.75)
                        .with("final", true)
                        .with("note", std::string("ok"))
                        .with("delta", Tensor::of(values, {}))
                        .with("tokens", Tensor::of(tokens, {1, 2}));
  message.tensors["coded"] = {DType::coded, {1000}, Bytes(5, std::byte{9})};
  return message;
}

Bytes encoded(const Message& message) {
  Bytes bytes;
  encode(message, bytes);
  return bytes;
}

}  // namespace

TEST_CASE("a message survives its encoding, and equal messages have equal bytes", "[wire]") {
  const Message message = sample();
  CHECK(decode(encoded(message)) == message);
  CHECK(encoded(decode(encoded(message))) == encoded(message));
  CHECK(payload_bytes(message) == 3 * 4 + 2 * 8 + 5);
  CHECK(decode(encoded(Message("empty"))) == Message("empty"));
}

TEST_CASE("every truncation of a message is refused", "[wire]") {
  const Bytes bytes = encoded(sample());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK_THROWS_AS(decode(ByteView(bytes).first(size)), WireError);
  }
  Bytes longer = bytes;
  longer.push_back(std::byte{0});
  CHECK_THROWS_AS(decode(longer), WireError);
}

TEST_CASE("random damage to a message is refused or decodes to one canonical message",
          "[wire][property]") {
  const Bytes bytes = encoded(sample());
  Rng rng(5);
  for (int round = 0; round < 20'000; ++round) {
    Bytes damaged = bytes;
    for (int flips = 0; flips < 3; ++flips) {
      damaged[rng.below(damaged.size())] ^= static_cast<std::byte>(1U << rng.below(8));
    }
    std::optional<Message> message;
    try {
      message = decode(damaged);
    } catch (const WireError&) {
      continue;
    }
    CHECK(encoded(*message) == damaged);
  }
}

TEST_CASE("a tensor that claims more than is there is refused before allocation", "[wire]") {
  Bytes bytes;
  ByteWriter out(bytes);
  out.text("update");
  out.varint(0);
  out.varint(1);
  out.text("w");
  out.number(static_cast<std::uint8_t>(DType::f32));
  out.number(std::uint8_t{1});
  out.varint(std::uint64_t{1} << 33);
  CHECK_THROWS_WITH(decode(bytes), Catch::Contains("34359738368 bytes, 0 left"));
}

TEST_CASE("a frame survives, and any flipped bit is noticed", "[wire][frame]") {
  const Bytes frame = encode_frame(FrameType::data, 77, sample());
  Header header;
  CHECK(decode_frame(frame, header) == sample());
  CHECK(decode_frame_owned(frame, header) == sample());
  CHECK(header.exchange == 77);
  CHECK(header.type == FrameType::data);
  for (std::size_t at = 0; at < frame.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes damaged = frame;
      damaged[at] ^= static_cast<std::byte>(1U << bit);
      CHECK_THROWS_AS(decode_frame(damaged, header), WireError);
      CHECK_THROWS_AS(decode_frame_owned(damaged, header), WireError);
    }
  }
}

TEST_CASE("the last tensor takes over the memory of a buffer that nobody else needs", "[wire]") {
  const std::vector<float> small{1, 2}, large(1000, 3);
  const Message message =
      Message("update").with("a", Tensor::of(small, {})).with("b", Tensor::of(large, {}));
  Bytes frame = encode_frame(FrameType::data, 1, message);
  const std::byte* const memory = frame.data();
  Header header;
  const Message owned = decode_frame_owned(std::move(frame), header);
  CHECK(owned == message);
  CHECK(owned.tensors.at("b").bytes.data() == memory);
  CHECK(owned.tensors.at("a").bytes.data() != memory);
}

TEST_CASE("a header that claims too much is refused", "[wire][frame]") {
  Bytes frame = encode_frame(FrameType::control, 0, Message("ping"));
  const auto raw = ByteView(frame).first<kHeaderBytes>();
  CHECK_THROWS_WITH(decode_header(raw, 3), Catch::Contains("at most 3"));
  frame[0] = std::byte{'G'};
  CHECK_THROWS_WITH(decode_header(ByteView(frame).first<kHeaderBytes>(), 100),
                    Catch::Contains("not a fedctl frame"));
}

// The worked example of docs/protocol.md, byte for byte.
TEST_CASE("the worked frame of the documentation decodes", "[wire][frame][golden]") {
  const std::vector<float> weights{1.0F, -0.5F};
  const Message message =
      Message("train").with("round", std::int64_t{3}).with("w", Tensor::of(weights, {}));
  const Bytes frame = encode_frame(FrameType::data, 3, message);
  std::string hex;
  for (const std::byte byte : frame) {
    static constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[std::to_integer<unsigned>(byte) >> 4];
    hex += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  CHECK(hex ==
        "66630100240000000300000000000000"
        "81557381"      // header: data, 36 bytes, exchange 3; checksum
        "05747261696e"  // "train"
        "01"
        "05726f756e64"
        "00"
        "0300000000000000"  // one scalar: "round", integer 3
        "01"
        "0177"
        "00"
        "01"
        "02"
        "0000803f"
        "000000bf");  // one tensor: "w", f32, rank 1, [2], values
}

TEST_CASE("expectations name kind and field", "[wire]") {
  const Message message = sample();
  CHECK(Expect(message, "update").integer("examples", 0, 100) == 41);
  CHECK(Expect(message, "update").f32("delta", {3}).size() == 3);
  CHECK_THROWS_WITH(Expect(message, "train"), Catch::Contains("\"train\" was expected"));
  CHECK_THROWS_WITH(Expect(message, "update").integer("loss", 0, 1),
                    Catch::Contains("expected an integer"));
  CHECK_THROWS_WITH(Expect(message, "update").integer("examples", 0, 1),
                    Catch::Contains("41 is not in [0, 1]"));
  CHECK_THROWS_WITH(Expect(message, "update").f32("delta", {4}),
                    Catch::Contains("shape [3], expected [4]"));
  CHECK_THROWS_WITH(Expect(message, "update").f32("absent", {4}), Catch::Contains("missing"));
  Message bad("update");
  bad.tensors["delta"] =
      Tensor::of(std::vector<float>{0, std::numeric_limits<float>::quiet_NaN()}, {});
  CHECK_THROWS_WITH(Expect(bad, "update").f32("delta", {2}),
                    Catch::Contains("value 1 is not finite"));
}
