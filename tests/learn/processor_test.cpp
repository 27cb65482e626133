#include "learn/processor.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>

#include "learn/spec.hpp"
#include "support/plugin.hpp"

using namespace fedctl;

TEST_CASE("bfloat16 is warned of where the processor does not multiply it", "[learn][processor]") {
  config::Plugin model = test::plugin(learn::family_kinds(), "bert");
  auto& options = dynamic_cast<learn::ModelOptions&>(*model.options);
  CHECK(learn::slow_here(model, false).empty());
  options.backbone_dtype = "bfloat16";
  CHECK(learn::slow_here(model, true).empty());
  CHECK_THAT(learn::slow_here(model, false),
             Catch::StartsWith("model.backbone_dtype is bfloat16") && Catch::Contains("slower"));
}

TEST_CASE("what the processor multiplies is what the kernel says", "[learn][processor]") {
  std::ifstream in("/proc/cpuinfo");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const bool there = text.find(" avx512_bf16") != std::string::npos ||
                     text.find(" amx_bf16") != std::string::npos;
  CHECK(learn::multiplies_bfloat16() == there);
}
