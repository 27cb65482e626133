#include "data/safetensors.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/errors.hpp"
#include "base/rng.hpp"

using namespace fedctl;
using data::Safetensors;

namespace {

std::string path() {
  return (std::filesystem::temp_directory_path() /
          ("fedctl-st-" + std::to_string(::getpid()) + ".safetensors"))
      .string();
}

// A file with this header and this many data bytes.
std::string write_raw(const std::string& header, const std::string& bytes) {
  std::ofstream out(path(), std::ios::binary | std::ios::trunc);
  const std::uint64_t length = header.size();
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out << header << bytes;
  return path();
}

std::string entry(const std::string& dtype, const std::string& shape, int begin, int end) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":[)" +
         std::to_string(begin) + ',' + std::to_string(end) + "]}";
}

}  // namespace

TEST_CASE("safetensors: what is written is read back, metadata included", "[data][safetensors]") {
  const std::vector<float> values{1, -2, 3.5F};
  const std::vector<std::int64_t> numbers{7, -9};
  TensorMap tensors;
  tensors["w"] = Tensor::of(values, {3, 1});
  tensors["n"] = Tensor::of(numbers, {});
  data::write_safetensors(path(), tensors, {{"run", "a \"quoted\" name"}});
  const Safetensors file = Safetensors::open(path());
  CHECK(file.names() == std::vector<std::string>{"n", "w"});
  CHECK(file.f32("w") == tensors["w"]);
  CHECK(file.i64("n") == tensors["n"]);
  CHECK(file.metadata().at("run") == "a \"quoted\" name");
  CHECK_THROWS_WITH(file.f32("n"), Catch::Contains("\"n\" is I64, expected floating point"));
  CHECK_THROWS_WITH(file.f32("absent"), Catch::Contains("no tensor \"absent\""));
}

TEST_CASE("safetensors: halves and doubles are widened or narrowed exactly where they can be",
          "[data][safetensors]") {
  // 1.5 and -2 in each; F16 also its smallest subnormal.
  const char half[] = {0x00, 0x3e, 0x00, char(0xc0), 0x01, 0x00};
  write_raw('{' + std::string("\"h\":") + entry("F16", "[3]", 0, 6) + '}', std::string(half, 6));
  const Tensor halves = Safetensors::open(path()).f32("h");
  CHECK(halves.f32()[0] == 1.5F);
  CHECK(halves.f32()[1] == -2.0F);
  CHECK(halves.f32()[2] == 0x1p-24F);
  const char brain[] = {char(0xc0), 0x3f, 0x00, char(0xc0)};
  write_raw('{' + std::string("\"b\":") + entry("BF16", "[2]", 0, 4) + '}', std::string(brain, 4));
  CHECK(Safetensors::open(path()).f32("b").f32()[0] == 1.5F);
  const double wide[] = {0.25, -8};
  write_raw('{' + std::string("\"d\":") + entry("F64", "[2]", 0, 16) + '}',
            std::string(reinterpret_cast<const char*>(wide), 16));
  CHECK(Safetensors::open(path()).f32("d").f32()[1] == -8.0F);
}

TEST_CASE("safetensors: hostile files are refused with the reason", "[data][safetensors]") {
  const auto refused = [](const std::string& file, const char* why) {
    INFO(why);
    CHECK_THROWS_WITH(Safetensors::open(file), Catch::Contains(why));
    CHECK_THROWS_AS(Safetensors::open(file), DataError);
  };
  const std::string four(4, 'x'), eight(8, 'x');
  refused("/nowhere.safetensors", "no such file");
  std::ofstream(path(), std::ios::trunc) << "short";
  refused(path(), "shorter than 8 bytes");
  {
    std::ofstream out(path(), std::ios::binary | std::ios::trunc);
    const std::uint64_t claim = std::uint64_t{100} << 30;
    out.write(reinterpret_cast<const char*>(&claim), sizeof claim);
    out << "{}";
  }
  refused(path(), "header claims 107374182400 bytes");
  refused(write_raw("[1]", ""), "not a JSON object");
  refused(write_raw("{\"a\":", ""), "not a JSON object");
  refused(write_raw(std::string(50, '[') + std::string(50, ']'), ""), "nested too deeply");
  refused(
      write_raw("{\"a\":" + entry("F32", "[1]", 0, 4) + ",\"a\":" + entry("F32", "[1]", 4, 8) + '}',
                eight),
      "\"a\" appears twice");
  refused(write_raw("{\"a\":" + entry("F33", "[1]", 0, 4) + '}', four), "unknown dtype F33");
  refused(write_raw("{\"a\":" + entry("F32", "[-1]", 0, 4) + '}', four), "not a natural number");
  refused(write_raw("{\"a\":" + entry("F32", "[2]", 0, 4) + '}', four), "needs 8 bytes");
  refused(write_raw("{\"a\":" + entry("F32", "[4294967296,4294967296]", 0, 4) + '}', four),
          "elements");
  refused(write_raw("{\"a\":" + entry("F32", "[1]", 0, 400) + '}', four), "outside the data");
  refused(write_raw("{\"a\":" + entry("F32", "[1]", 4, 0) + '}', four), "outside the data");
  refused(
      write_raw("{\"a\":" + entry("F32", "[1]", 0, 4) + ",\"b\":" + entry("F32", "[1]", 0, 4) + '}',
                four),
      "overlap or leave a gap");
  refused(write_raw("{\"a\":" + entry("F32", "[1]", 4, 8) + '}', eight), "overlap or leave a gap");
  refused(write_raw("{\"a\":" + entry("F32", "[1]", 0, 4) + '}', eight), "follow the last tensor");
  refused(write_raw("{\"__metadata__\":{\"a\":1}}", ""), "is not a text");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  write_raw("{\"a\":" + entry("F32", "[1]", 0, 4) + '}',
            std::string(reinterpret_cast<const char*>(&nan), 4));
  CHECK_THROWS_WITH(Safetensors::open(path()).f32("a"), Catch::Contains("value 0 is not finite"));
}

TEST_CASE("safetensors: random damage is refused or read within bounds",
          "[data][safetensors][property]") {
  TensorMap tensors;
  const std::vector<float> values(10, 1.0F);
  tensors["a"] = Tensor::of(values, {2, 5});
  tensors["b"] = Tensor::of(values, {10});
  data::write_safetensors(path(), tensors, {});
  std::ifstream in(path(), std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  Rng rng(8);
  for (int round = 0; round < 2000; ++round) {
    std::string damaged =
        whole.substr(0, rng.below(4) == 0 ? rng.below(whole.size()) : whole.size());
    for (int flips = 0; flips < 2 && !damaged.empty(); ++flips) {
      damaged[rng.below(damaged.size())] ^= static_cast<char>(1 << rng.below(8));
    }
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << damaged;
    try {
      const Safetensors file = Safetensors::open(path());
      for (const std::string& name : file.names()) file.f32(name);
    } catch (const DataError&) {
    }
  }
  std::filesystem::remove(path());
}

TEST_CASE("safetensors: halves are written to the nearest, ties to even", "[data][safetensors]") {
  const std::vector<float> values{1.0F + 0x1p-11F, 1.0F + 3 * 0x1p-11F, -0x1.8p-25F, 65519.0F,
                                  0.1F};
  data::write_safetensors(path(), {{"a", Tensor::of(values, {})}}, {}, data::Storage::f16);
  CHECK(std::filesystem::file_size(path()) % 8 == 2);  // header in eights, five halves
  const Tensor halves = Safetensors::open(path()).f32("a");
  CHECK(halves.f32()[0] == 1.0F);
  CHECK(halves.f32()[1] == 1.0F + 0x1p-9F);
  CHECK(halves.f32()[2] == -0x1p-24F);
  CHECK(halves.f32()[3] == 65504.0F);
  CHECK(halves.f32()[4] == Catch::Detail::Approx(0.1F).epsilon(0x1p-11));
  const std::vector<float> more{1.0F + 0x1p-8F, 1.0F + 3 * 0x1p-8F, 3e38F};
  data::write_safetensors(path(), {{"b", Tensor::of(more, {})}}, {}, data::Storage::bf16);
  const Tensor brains = Safetensors::open(path()).f32("b");
  CHECK(brains.f32()[0] == 1.0F);
  CHECK(brains.f32()[1] == 1.0F + 0x1p-6F);
  CHECK(brains.f32()[2] == Catch::Detail::Approx(3e38F).epsilon(0x1p-8));
  const std::vector<float> large{65520.0F};
  CHECK_THROWS_WITH(
      data::write_safetensors(path(), {{"c", Tensor::of(large, {})}}, {}, data::Storage::f16),
      Catch::Contains("\"c\"") && Catch::Contains("beyond what F16 holds"));
  CHECK(Safetensors::open(path()).contains("b"));  // the old file is still there
  CHECK_FALSE(std::filesystem::exists(path() + ".tmp"));
  std::filesystem::remove(path());
}

TEST_CASE("safetensors: large tensors are read piece by piece, and again, with the same values",
          "[data][safetensors]") {
  // Two pieces and a rest, beginning in the middle of a page.
  std::vector<float> large((std::size_t{2} << 20) + 777);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<float>(i);
  const std::vector<float> small{1, 2, 3, 4, 5};
  data::write_safetensors(
      path(),
      {{"a", Tensor::of(small, {})}, {"b", Tensor::of(large, {})}, {"c", Tensor::of(small, {})}},
      {});
  const Safetensors file = Safetensors::open(path());
  for (int time = 0; time < 2; ++time) {
    CHECK((file.f32("b") == Tensor::of(large, {})));
    CHECK(file.f32("a") == Tensor::of(small, {}));
    CHECK(file.f32("c") == Tensor::of(small, {}));
  }
  large.back() = std::numeric_limits<float>::infinity();
  data::write_safetensors(path(), {{"b", Tensor::of(large, {})}}, {});
  CHECK_THROWS_WITH(Safetensors::open(path()).f32("b"),
                    Catch::Contains("value 2097928 is not finite"));
  std::filesystem::remove(path());
}
