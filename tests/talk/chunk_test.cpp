#include "wire/chunk.hpp"

#include <catch2/catch.hpp>

#include "base/rng.hpp"
#include "talk/frame_cache.hpp"

using namespace fedctl;
using namespace fedctl::wire;

namespace {

Message update(std::size_t floats) {
  std::vector<float> values(floats);
  Rng rng(4);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return Message("update").with("examples", std::int64_t{7}).with("w", Tensor::of(values, {}));
}

std::optional<Message> add(Transfer& transfer, const Bytes& chunk,
                           std::size_t bytes_max = limits::kFrameBytesMax) {
  const auto raw = ByteView(chunk).first<kHeaderBytes>();
  const Header header = decode_header(raw, limits::kFrameBytesMax);
  const ByteView body = ByteView(chunk).subspan(kHeaderBytes);
  check_body(header, raw, body);
  CHECK(header.type == FrameType::chunk);
  return transfer.add(header, body, bytes_max).message;
}

// Whether the last frame is there although nobody writes it any more.
bool is_kept(const Message& message) {
  talk::FrameCache cache;
  const wire::SharedMessage shared = wire::share(Message(message));
  talk::SharedFrame first = cache.frame(shared, 1);
  CHECK(cache.frame(shared, 1) == first);
  CHECK(cache.frame(shared, 2) != first);
  first = cache.frame(shared, 1);
  const std::weak_ptr<const talk::Frame> watch = first;
  first.reset();
  return !watch.expired();
}

struct Cut {
  explicit Cut(const Message& message, talk::ExchangeId exchange = 3)
      : frame(talk::make_frame(exchange, message, true)) {
    for (std::size_t i = 0; i < frame->chunks; ++i) {
      chunks.push_back(frame->chunk(i));
    }
  }
  talk::SharedFrame frame;
  std::vector<Bytes> chunks;
};

}  // namespace

TEST_CASE("a frame in chunks is kept only while somebody writes it", "[talk]") {
  CHECK(is_kept(update(100)));
  CHECK_FALSE(is_kept(update(1 << 17)));
}

TEST_CASE("a transfer on disk goes on behind a break, and is read when it is whole",
          "[wire][chunk]") {
  const Message message = update(200'000);
  const Cut cut(message);
  const auto scratch = Scratch::in("");
  Transfer transfer(scratch);
  std::optional<StoredFrame> stored;
  for (std::size_t i = 0; i < cut.chunks.size(); ++i) {
    const auto raw = ByteView(cut.chunks[i]).first<kHeaderBytes>();
    const Header header = decode_header(raw, limits::kFrameBytesMax);
    const ByteView body = ByteView(cut.chunks[i]).subspan(kHeaderBytes);
    // The connection breaks in the middle of it.
    transfer.begin(header, body.first<kChunkHeadBytes>(), limits::kFrameBytesMax);
    transfer.write(Bytes(1000));
    CHECK(transfer.chunks() == i);
    Transfer::Piece piece = transfer.add(header, body, limits::kFrameBytesMax);
    CHECK(transfer.chunks() == i + 1);
    CHECK(piece.payload == cut.frame->parts_of(i).payload);
    CHECK_FALSE(piece.message.has_value());
    CHECK(piece.stored.has_value() == (i + 1 == cut.chunks.size()));
    stored = std::move(piece.stored);
  }
  CHECK(transfer.whole());
  CHECK(stored->read() == message);
  stored->region->write(100'000, Bytes(1));
  CHECK_THROWS_WITH(stored->read(), Catch::Contains("checksum"));
  stored.reset();
  CHECK(scratch->taken() == 0);
}

TEST_CASE("a frame in chunks is put together again, and its parts add up", "[wire][chunk]") {
  const std::size_t around = limits::kChunkBytes / sizeof(float);
  for (const std::size_t floats : {around, around + 1, 2 * around - 8, 3 * around + 5}) {
    const Message message = update(floats);
    const Cut cut(message);
    REQUIRE(cut.frame->chunks > 1);
    Transfer transfer;
    talk::Traffic parts;
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < cut.chunks.size(); ++i) {
      const auto got = add(transfer, cut.chunks[i]);
      CHECK(got.has_value() == (i + 1 == cut.chunks.size()));
      if (got) CHECK(*got == message);
      CHECK(cut.frame->parts_of(i).sum() == cut.chunks[i].size());
      parts += cut.frame->parts_of(i);
      bytes += cut.chunks[i].size();
    }
    CHECK(transfer.whole());
    CHECK(parts == cut.frame->parts);
    CHECK(parts.sum() == bytes);
    CHECK(parts.payload == floats * sizeof(float));
  }
}

TEST_CASE("a small frame has no chunks", "[wire][chunk]") {
  const auto frame = talk::make_frame(1, update(100), true);
  CHECK(frame->chunks == 1);
  CHECK(frame->parts_of(0) == frame->parts);
  CHECK(frame->parts.sum() == frame->bytes.size());
}

TEST_CASE("chunks out of order, of something else, or that lie are refused",
          "[wire][chunk][hostile]") {
  const Cut cut(update(200'000));
  const Cut other(update(200'001));
  const Cut later(update(200'000), 4);
  REQUIRE(cut.chunks.size() == 4);
  Transfer transfer;
  CHECK_THROWS_WITH(add(transfer, cut.chunks[1]), Catch::Contains("not the next one"));
  add(transfer, cut.chunks[0]);
  CHECK_THROWS_WITH(add(transfer, cut.chunks[2]), Catch::Contains("not the next one"));
  CHECK_THROWS_WITH(add(transfer, other.chunks[1]), Catch::Contains("not the next one"));
  CHECK_THROWS_WITH(add(transfer, later.chunks[1]), Catch::Contains("not the next one"));
  CHECK(transfer.chunks() == 1);  // a wrong one costs nothing of what is there
  add(transfer, other.chunks[0]);
  CHECK(transfer.id() == other.frame->id);
  CHECK_THROWS_WITH(add(transfer, cut.chunks[0], 3 * limits::kChunkBytes),
                    Catch::Contains("chunk 0 of 4"));

  CHECK_THROWS_AS(add(transfer, cut.chunks[0], 3 * limits::kChunkBytes), TooLarge);

  const auto changed = [&](std::size_t at) {
    Bytes chunk = cut.chunks[3];
    chunk[at] ^= std::byte{1};
    put_header(FrameType::chunk, 3, chunk);
    Transfer fresh;
    for (std::size_t i = 0; i < 3; ++i) add(fresh, cut.chunks[i]);
    CHECK_THROWS_AS(add(fresh, chunk), WireError);
  };
  changed(kHeaderBytes);                        // the id
  changed(kHeaderBytes + 16);                   // the index
  changed(kHeaderBytes + 20);                   // the count
  changed(kHeaderBytes + 24);                   // what is not payload
  changed(kHeaderBytes + kChunkHeadBytes + 9);  // a value: the digest tells

  // A sender that lies from the first chunk on.
  Transfer fresh;
  for (std::size_t i = 0; i < 4; ++i) {
    const Bytes chunk = encode_chunk(cut.frame->bytes, 3, cut.frame->id, i, 17);
    if (i < 3) {
      add(fresh, chunk);
    } else {
      CHECK_THROWS_WITH(add(fresh, chunk), Catch::Contains("not what its chunks say"));
    }
  }
  CHECK(fresh.chunks() == 0);
  // A chunk within a chunk, and one where no transfer is.
  Header header;
  CHECK_THROWS_WITH(decode_frame(cut.chunks[0], header), Catch::Contains("whole frame"));
}
