// rans: the numbers of a quantizer at their entropy (codec/detail/rans.hpp has the bytes).

#include "codec/detail/rans.hpp"

#include "codec/codec.hpp"

namespace fedctl::codec {
namespace {

class Rans final : public SymbolCoder {
 public:
  std::size_t max_encoded_bytes(std::size_t count, unsigned alphabet) const override {
    return detail::rans_bytes_max(count, alphabet);
  }
  void encode(std::span<const std::uint8_t> symbols, unsigned alphabet, Bytes& out) const override {
    detail::rans_encode(symbols, alphabet, out);
  }
  void decode(ByteView& encoded, unsigned alphabet,
              std::span<std::uint8_t> symbols) const override {
    detail::rans_decode(encoded, alphabet, symbols);
  }
};

struct RansOptions : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry rans() {
  return {.kind = {.name = "rans",
                   .summary = "the numbers of a quantizer at their entropy",
                   .paper = "Duda, arXiv 1311.2540; Giesen, arXiv 1402.3392",
                   .make_options = [] { return std::make_unique<RansOptions>(); }},
          .stage = Stage::coder,
          .make_coder = [](const config::Options&) { return std::make_unique<Rans>(); }};
}

}  // namespace fedctl::codec
