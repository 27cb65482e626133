#include <catch2/catch.hpp>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

std::string refusal(const std::vector<std::string>& kinds, const std::string& feedback = "none",
                    const std::string& place = "") {
  std::vector<config::Plugin> chain;
  for (const std::string& kind : kinds) {
    chain.push_back(test::plugin(codec::codec_kinds(), kind));
    chain.back().place = place;
  }
  const std::vector<codec::BlockSize> blocks = {10};
  try {
    codec::make_chain(chain, feedback, blocks, "codec.down");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("chains that compose are made", "[codec][chain]") {
  CHECK(refusal({"float16"}) == "");
  CHECK(refusal({"topk", "float16"}) == "");
  CHECK(refusal({"topk", "quantize"}, "ef14") == "");
  const std::vector<codec::BlockSize> blocks = {10};
  CHECK(codec::make_chain({}, "ef14", blocks) == nullptr);
}

TEST_CASE("a chain that does not compose names both keys", "[codec][chain]") {
  CHECK(refusal({"float16", "quantize"}, "none", "a.yaml:3:9") ==
        "a.yaml:3:9: codec.down[0] and codec.down[1]: quantize is a quantizer, it cannot follow "
        "float16, a quantizer");
  CHECK(refusal({"quantize", "topk"}) ==
        "codec.down[0] and codec.down[1]: topk is a sparsifier, it cannot follow quantize, a "
        "quantizer");
  CHECK(refusal({"topk", "quantize", "float16"}) ==
        "codec.down[1] and codec.down[2]: float16 is a quantizer, it cannot follow quantize, a "
        "quantizer");
}

TEST_CASE("an unknown kind of error feedback names the known ones", "[codec][chain]") {
  CHECK(refusal({"topk"}, "ef15") ==
        "codec.error_feedback is \"ef15\", must be none | econtrol | ef14 | ef21");
}
