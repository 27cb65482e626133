// drive: the sign of every value of the randomly rotated vector, and one scale a block (Vargaftik,
// Ben-Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher, "DRIVE: one-bit distributed mean
// estimation", NeurIPS 2021). The bytes are those of eden with one bit.

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/eden.hpp"

namespace fedctl::codec {
namespace {

struct DriveOptions : config::Options {
  bool unbiased = true;
  std::int64_t rounds = 2;
  void fields(config::Fields& fields) override {
    fields.boolean("unbiased", unbiased, "right on average; false: the smallest error");
    fields.integer("rounds", rounds, {.min = 1, .max = 2}, "rotations in a row");
  }
};

std::unique_ptr<Codec> make_coded(const config::Options& options, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  const auto& drive = dynamic_cast<const DriveOptions&>(options);
  return detail::make_eden(
      {.unbiased = drive.unbiased, .rounds = static_cast<unsigned>(drive.rounds)},
      detail::value_count(blocks), std::move(coder));
}

}  // namespace

CodecEntry drive() {
  return {.kind = {.name = "drive",
                   .summary = "1 bit a value: signs after a random rotation, unbiased",
                   .paper = "Vargaftik et al., DRIVE, NeurIPS 2021 (arXiv 2105.08339)",
                   .make_options = [] { return std::make_unique<DriveOptions>(); }},
          .promises = {.unbiased = true},
          .promises_with =
              [](const config::Options& options) {
                const bool unbiased = dynamic_cast<const DriveOptions&>(options).unbiased;
                return Promises{.unbiased = unbiased, .contractive = !unbiased};
              },
          .make_coded = make_coded};
}

}  // namespace fedctl::codec
