// masked: the values that are not 0, with their positions: nothing is lost. For methods that leave
// most of a vector at 0, as FLASC's masks do (Kuo, Raje, Rajesh, Smith, arXiv 2406.05233).
//
// Bytes: codec/detail/support.hpp. -0 decodes to 0.

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/support.hpp"

namespace fedctl::codec {
namespace {

struct MaskedOptions : config::Options {
  void fields(config::Fields&) override {}
};

std::unique_ptr<Codec> make_before(const config::Options&, Blocks blocks, const MakeNext& next) {
  return detail::make_support(detail::value_count(blocks), 0, next);
}

}  // namespace

CodecEntry masked() {
  return {.kind = {.name = "masked",
                   .summary = "the values that are not 0, with their positions; lossless",
                   .paper = "Kuo et al., FLASC, arXiv 2406.05233",
                   .make_options = [] { return std::make_unique<MaskedOptions>(); }},
          .stage = Stage::sparsifier,
          .promises = {.unbiased = true, .contractive = true},
          .make_before = make_before};
}

}  // namespace fedctl::codec
