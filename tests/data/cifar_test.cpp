#include <zlib.h>

#include <catch2/catch.hpp>
#include <set>

#include "base/errors.hpp"
#include "data/files.hpp"
#include "data/plugins.hpp"

using namespace fedctl;
using Catch::Contains;
using test::Folder;

namespace {

// One record: the red plane is `red` everywhere, green is 51, blue counts along the rows.
std::string record(int label, int red) {
  std::string bytes(1, static_cast<char>(label));
  bytes += std::string(1024, static_cast<char>(red)) + std::string(1024, '\x33');
  for (int i = 0; i < 1024; ++i) bytes += static_cast<char>(i % 32);
  return bytes;
}

std::string opening(const Folder& folder, const std::string& more = "") {
  return "{kind: cifar, path: " + folder.path() + more + '}';
}

std::string refused(const Folder& folder) {
  return test::refusal<DataError>([&] { test::open_data(opening(folder)); });
}

}  // namespace

TEST_CASE("cifar: planes, labels and parts", "[data][cifar]") {
  const Folder folder;
  folder.write("data_batch_1.bin", record(3, 255) + record(9, 0));
  const std::string packed_path = folder.path() + "/data_batch_2.bin.gz";
  gzFile packed = gzopen(packed_path.c_str(), "wb");
  const std::string one = record(0, 102);
  gzwrite(packed, one.data(), static_cast<unsigned>(one.size()));
  gzclose(packed);
  folder.write("test_batch.bin", record(7, 1));
  const data::Source source = test::open_data(opening(folder));
  REQUIRE(source.train->size() == 3);
  REQUIRE(source.test->size() == 1);
  CHECK(source.train->label(1) == 9);
  CHECK(source.train->label(2) == 0);
  CHECK(source.test->label(0) == 7);
  CHECK(source.train->info().classes.size() == 10);
  CHECK(source.train->info().input_shape == Shape{3, 32, 32});
  const std::vector<std::size_t> order{2, 0};
  const data::Batch batch = source.train->gather(order);
  const Tensor& pixels = batch.at("pixels");
  REQUIRE(pixels.shape == Shape{2, 3, 32, 32});
  CHECK(pixels.f32()[0] == Approx(0.4));
  CHECK(pixels.f32()[1024] == Approx(0.2));
  CHECK(pixels.f32()[3072] == 1);
  CHECK(pixels.f32()[3072 + 2048 + 33] == Approx(1.0 / 255));
  CHECK(batch.at("labels").i64()[1] == 3);
}

TEST_CASE("cifar: pixels as they are asked for", "[data][cifar]") {
  const Folder folder;
  folder.write("train.bin", record(3, 255));
  const std::vector<std::size_t> first{0};
  const auto pixel = [&](const char* normalize, std::size_t at) {
    const data::Source source =
        test::open_data(opening(folder, std::string(", normalize: ") + normalize));
    return source.train->gather(first).at("pixels").f32()[at];
  };
  CHECK(pixel("half", 0) == Approx(1));
  CHECK(pixel("half", 2048) == Approx(-1));
  CHECK(pixel("channel", 0) == Approx((1 - 0.4914) / 0.2470));
  CHECK(pixel("channel", 1024) == Approx((0.2 - 0.4822) / 0.2435));
  CHECK_THROWS_AS(pixel("some", 0), ConfigError);
}

TEST_CASE("cifar: class names from batches.meta.txt", "[data][cifar]") {
  const Folder folder;
  folder.write("train.bin", record(2, 1));
  folder.write("batches.meta.txt", "cat\r\ndog\nship\n\n");
  CHECK(test::open_data(opening(folder)).train->info().classes ==
        std::vector<std::string>{"cat", "dog", "ship"});
  folder.write("train.bin", record(2, 1) + record(3, 1));
  CHECK_THAT(refused(folder),
             Contains("train.bin: record 1, byte 3073: label is 3") && Contains("expected 0 to 2"));
}

TEST_CASE("cifar: one file is a training set without a test part", "[data][cifar]") {
  const Folder folder;
  const std::string path = folder.write("train.bin", record(2, 1));
  folder.write("test.bin", record(2, 1));
  const data::Source source = test::open_data("{kind: cifar, path: " + path + '}');
  CHECK(source.train->size() == 1);
  CHECK(source.test->size() == 0);
}

TEST_CASE("cifar: a file that does not fit is refused with its place", "[data][cifar]") {
  const Folder folder;
  CHECK_THAT(refused(folder), Contains("no train*.bin"));
  folder.write("train.bin", "");
  CHECK_THAT(refused(folder), Contains("train.bin: no record"));
  folder.write("train.bin", record(1, 1) + record(1, 1).substr(0, 17));
  CHECK_THAT(refused(folder), Contains("record 1, byte 3073: has 17 bytes, expected 3073"));
  folder.write("train.bin", record(1, 1) + record(200, 1));
  CHECK_THAT(refused(folder), Contains("record 1, byte 3073: label is 200, expected 0 to 9"));
  folder.write("train.bin", record(1, 1));
  folder.write("test.bin", record(10, 1));
  CHECK_THAT(refused(folder), Contains("test.bin: record 0"));
  CHECK_THROWS_AS(test::open_data("{kind: cifar, path: /nowhere/at/all}"), DataError);
}

TEST_CASE("cifar: the shared subset", "[data][cifar]") {
  if (!test::has_shared("cifar10-subset")) {
    WARN("no shared data");
    return;
  }
  const data::Source source =
      test::open_data("{kind: cifar, path: " + test::shared_data() + "/cifar10-subset}");
  REQUIRE(source.train->size() == 5000);
  REQUIRE(source.test->size() == 1000);
  std::vector<int> counts(10);
  for (std::size_t i = 0; i < 5000; ++i) ++counts[static_cast<std::size_t>(source.train->label(i))];
  CHECK(std::set<int>(counts.begin(), counts.end()) == std::set<int>{500});
}
