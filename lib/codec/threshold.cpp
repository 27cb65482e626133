// threshold: keeps the values of at least `relative` times the largest magnitude; the others decode
// to 0. Unlike with topk their number follows the values: few of a heavy-tailed vector, many of an
// even one (Strom, "Scalable distributed DNN training using commodity GPU cloud computing",
// Interspeech 2015, with a threshold that is relative).
//
// Bytes: codec/detail/support.hpp.
// Error: at most that of sending nothing.

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/support.hpp"

namespace fedctl::codec {
namespace {

struct ThresholdOptions : config::Options {
  double relative = 0.1;
  void fields(config::Fields& fields) override {
    fields.real("relative", relative, {.min = 0, .max = 1},
                "smallest magnitude that is kept, as a share of the largest");
  }
};

std::unique_ptr<Codec> make_before(const config::Options& options, Blocks blocks,
                                   const MakeNext& next) {
  return detail::make_support(detail::value_count(blocks),
                              dynamic_cast<const ThresholdOptions&>(options).relative, next);
}

}  // namespace

CodecEntry threshold() {
  return {.kind = {.name = "threshold",
                   .summary = "the values above a share of the largest, with their positions",
                   .paper = "Strom, Interspeech 2015",
                   .make_options = [] { return std::make_unique<ThresholdOptions>(); }},
          .stage = Stage::sparsifier,
          .promises = {.contractive = true},
          .make_before = make_before};
}

}  // namespace fedctl::codec
