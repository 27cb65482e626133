// zstd: the bytes of the chain before it through Zstandard (RFC 8878), as a fallback for chains
// whose bytes have patterns; behind an entropy coder there is nothing left to find.
//
// Bytes: none if the chain before it writes none, else one frame with its content size and without
// checksum and dictionary. Encoding is the same everywhere with one version of libzstd, but another
// version may find other bytes for the same content, so the reader cannot insist on the frame that
// encode() would write: here equal contents may have other bytes.
// Nothing is allocated for more than the chain before it may have written.
// State: that of the chain before it.

#include <zstd.h>

#include <memory>
#include <new>

#include "base/assert.hpp"
#include "codec/codec.hpp"

namespace fedctl::codec {
namespace {

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

Bytes compress(ByteView content, int level) {
  const std::unique_ptr<ZSTD_CCtx, FreeContext> context(ZSTD_createCCtx());
  if (context == nullptr) throw std::bad_alloc();
  FEDCTL_ASSERT(
      !ZSTD_isError(ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level)));
  Bytes frame(ZSTD_compressBound(content.size()));
  const std::size_t size =
      ZSTD_compress2(context.get(), frame.data(), frame.size(), content.data(), content.size());
  if (ZSTD_isError(size)) throw std::bad_alloc();  // the frame has room
  frame.resize(size);
  return frame;
}

[[noreturn]] void refuse(const std::string& what) { throw WireError("zstd: " + what); }

Bytes decompress(ByteView frame, std::size_t content_bytes_max) {
  const unsigned long long size = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (size == ZSTD_CONTENTSIZE_ERROR) refuse("no frame");
  if (size == ZSTD_CONTENTSIZE_UNKNOWN) refuse("a frame without its content size");
  if (size == 0 || size > content_bytes_max) {
    refuse("a content of " + std::to_string(size) + " bytes, expected 1 to " +
           std::to_string(content_bytes_max));
  }
  // Bits of the descriptor behind the magic number: unused, reserved, checksum, dictionary.
  constexpr unsigned kNeverSet = 0b0001'1111;
  constexpr std::size_t kDescriptor = 4;
  if ((std::to_integer<unsigned>(frame[kDescriptor]) & kNeverSet) != 0) {
    refuse("a frame with a checksum or a dictionary");
  }
  const std::size_t frame_bytes = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(frame_bytes)) refuse(ZSTD_getErrorName(frame_bytes));
  if (frame_bytes != frame.size()) {
    refuse(std::to_string(frame.size() - frame_bytes) + " bytes behind the frame");
  }
  Bytes content(static_cast<std::size_t>(size));
  const std::size_t written =
      ZSTD_decompress(content.data(), content.size(), frame.data(), frame.size());
  if (ZSTD_isError(written)) refuse(ZSTD_getErrorName(written));
  if (written != content.size()) refuse("less content than the frame says");
  return content;
}

class Zstd final : public Codec {
 public:
  Zstd(int level, std::unique_ptr<Codec> inner) : level_(level), inner_(std::move(inner)) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    const std::size_t content = inner_->max_encoded_bytes(count);
    return content == 0 ? 0 : ZSTD_compressBound(content);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    const Bytes content = inner_->encode(values, rng);
    return content.empty() ? Bytes() : compress(content, level_);
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    if (encoded.empty()) return inner_->decode(encoded, out);
    inner_->decode(decompress(encoded, inner_->max_encoded_bytes(out.size())), out);
  }

  std::vector<float> state() const override { return inner_->state(); }
  void restore(std::span<const float> state) override { inner_->restore(state); }

 private:
  int level_;
  std::unique_ptr<Codec> inner_;
};

struct ZstdOptions : config::Options {
  std::int64_t level = 3;
  void fields(config::Fields& fields) override {
    fields.integer("level", level, {.min = 1, .max = 19}, "1: fast, 19: small and very slow");
  }
};

}  // namespace

CodecEntry zstd() {
  return {.kind = {.name = "zstd",
                   .summary = "any chain's bytes through Zstandard",
                   .paper = "Collet, Kucherawy, RFC 8878",
                   .make_options = [] { return std::make_unique<ZstdOptions>(); }},
          .stage = Stage::squeezer,
          .make_around = [](const config::Options& options, std::unique_ptr<Codec> inner) {
            const auto level = dynamic_cast<const ZstdOptions&>(options).level;
            return std::make_unique<Zstd>(static_cast<int>(level), std::move(inner));
          }};
}

}  // namespace fedctl::codec
