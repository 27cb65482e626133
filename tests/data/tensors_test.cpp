// The data kind `safetensors`.
#include <catch2/catch.hpp>
#include <limits>
#include <map>
#include <set>

#include "base/errors.hpp"
#include "data/files.hpp"
#include "data/plugins.hpp"
#include "data/safetensors.hpp"

using namespace fedctl;
using Catch::Contains;
using test::Folder;

namespace {

Tensor bytes_of(std::vector<std::int64_t> values) {
  Tensor tensor = Tensor::zeros(DType::u8, {static_cast<std::int64_t>(values.size())});
  for (std::size_t i = 0; i < values.size(); ++i)
    tensor.bytes[i] = static_cast<std::byte>(values[i]);
  return tensor;
}

// Four rows of [3], row i is 3i, 3i+1, 3i+2; owners 1 0 1 0, takes 0 1 2 3.
TensorMap four_rows() {
  Tensor features = Tensor::zeros(DType::f32, {4, 3});
  for (std::size_t i = 0; i < 12; ++i) features.f32()[i] = static_cast<float>(i);
  TensorMap tensors;
  tensors.emplace("features", std::move(features));
  tensors.emplace("labels", bytes_of({2, 0, 1, 2}));
  tensors.emplace("speaker", bytes_of({1, 0, 1, 0}));
  tensors.emplace("take", bytes_of({0, 1, 2, 3}));
  return tensors;
}

struct File {
  explicit File(const TensorMap& tensors, const std::map<std::string, std::string>& metadata = {}) {
    data::write_safetensors(path(), tensors, metadata);
  }
  std::string path() const { return folder.path() + "/data.safetensors"; }
  data::Source open(const std::string& more = "") const {
    return test::open_data("{kind: safetensors, path: " + path() + more + '}');
  }
  std::string refused(const std::string& more = "") const {
    return test::refusal<DataError>([&] { open(more); });
  }
  Folder folder;
};

}  // namespace

TEST_CASE("safetensors: rows and labels by index", "[data][tensors]") {
  const File file(four_rows());
  const data::Source source = file.open();
  REQUIRE(source.train->size() == 4);
  CHECK(source.test->size() == 0);
  CHECK(source.train->info().input_shape == Shape{3});
  CHECK(source.train->info().classes == std::vector<std::string>{"0", "1", "2"});
  CHECK(source.train->field(0).empty());
  const std::vector<std::size_t> order{3, 1};
  const data::Batch batch = source.train->gather(order);
  CHECK(batch.at("features") == Tensor::of(std::vector<float>{9, 10, 11, 3, 4, 5}, {2, 3}));
  CHECK(batch.at("labels") == Tensor::of(std::vector<std::int64_t>{2, 0}, {2}));
}

TEST_CASE("safetensors: owners and names from the metadata", "[data][tensors]") {
  const File file(four_rows(), {{"speakers", "ann,bob"}, {"kinds", "x,y,z,never"}});
  const data::Source source = file.open(", client: speaker, label_names: kinds");
  CHECK(source.train->field(0) == "bob");
  CHECK(source.train->field(1) == "ann");
  CHECK(source.train->info().classes == std::vector<std::string>{"x", "y", "z", "never"});
  const File plain(four_rows());
  CHECK(plain.open(", client: speaker").train->field(0) == "speaker 1");
  CHECK_THAT(plain.refused(", label_names: kinds"), Contains("no metadata entry \"kinds\""));
  const File few(four_rows(), {{"speakers", "ann"}});
  CHECK_THAT(few.refused(", client: speaker"),
             Contains("tensor \"speaker\", row 0: value 1, expected 0 to 0"));
}

TEST_CASE("safetensors: the test part by a tensor", "[data][tensors]") {
  const File file(four_rows());
  const auto parts = [&](const std::string& how) {
    const data::Source source = file.open(", test_tensor: " + how);
    std::vector<float> first;
    for (const auto* part : {source.train.get(), source.test.get()}) {
      for (const std::size_t i : test::all_of(*part)) {
        const std::vector<std::size_t> one{i};
        first.push_back(part->gather(one).at("features").f32()[0]);
      }
      first.push_back(-1);
    }
    return first;
  };
  CHECK(parts("speaker") == std::vector<float>{3, 9, -1, 0, 6, -1});
  CHECK(parts("take, test_below: 1") == std::vector<float>{3, 6, 9, -1, 0, -1});
  CHECK(parts("take, test_equals: 2") == std::vector<float>{0, 3, 9, -1, 6, -1});
  CHECK_THAT(file.refused(", test_tensor: take, test_below: 4"), Contains("4 of 4 rows"));
  CHECK_THAT(file.refused(", test_tensor: take, test_equals: 9"), Contains("0 of 4 rows"));
  CHECK_THROWS_AS(file.open(", test_below: 1"), ConfigError);
  CHECK_THROWS_AS(file.open(", test_tensor: take, test_below: 1, test_equals: 1"), ConfigError);
}

TEST_CASE("safetensors: a folder with train and test", "[data][tensors]") {
  const Folder folder;
  TensorMap other = four_rows();
  other.at("labels") = bytes_of({4, 0, 0, 0});
  data::write_safetensors(folder.path() + "/train.safetensors", four_rows(), {});
  data::write_safetensors(folder.path() + "/test.safetensors", other, {});
  const std::string yaml = "{kind: safetensors, path: " + folder.path();
  const data::Source source = test::open_data(yaml + '}');
  CHECK(source.train->size() == 4);
  CHECK(source.test->label(0) == 4);
  CHECK(source.train->info().classes.size() == 5);
  CHECK_THROWS_AS(test::open_data(yaml + ", test_tensor: take}"), ConfigError);
  other.at("features") = Tensor::zeros(DType::f32, {4, 2});
  data::write_safetensors(folder.path() + "/test.safetensors", other, {});
  CHECK_THROWS_WITH(test::open_data(yaml + '}'), Contains("rows are [2]") && Contains("[3]"));
}

TEST_CASE("safetensors: integers are scaled, images are pixels", "[data][tensors]") {
  TensorMap tensors;
  Tensor images = Tensor::zeros(DType::u8, {2, 1, 2, 2});
  images.bytes[5] = std::byte{255};
  tensors.emplace("features", std::move(images));
  tensors.emplace("labels", bytes_of({0, 1}));
  const File file(tensors);
  const data::Source source = file.open(", scale: 0.00392156862745098");
  const data::Batch batch = source.train->gather(test::all_of(*source.train));
  CHECK(batch.at("pixels").shape == Shape{2, 1, 2, 2});
  CHECK(batch.at("pixels").f32()[5] == Approx(1));
  CHECK(batch.at("pixels").f32()[4] == 0);
}

TEST_CASE("safetensors: what does not fit is refused with its place", "[data][tensors]") {
  TensorMap tensors = four_rows();
  tensors.at("labels") = bytes_of({0, 1, 2});
  CHECK_THAT(File(tensors).refused(), Contains("tensor \"labels\" is [3]") && Contains("4 rows"));
  tensors.at("labels") = Tensor::of(std::vector<std::int64_t>{0, 1, -1, 0}, {4});
  CHECK_THAT(File(tensors).refused(), Contains("row 2: value -1"));
  tensors.at("labels") = Tensor::of(std::vector<std::int64_t>{0, 1LL << 40, 1, 0}, {4});
  CHECK_THAT(File(tensors).refused(), Contains("row 1: value 1099511627776"));
  tensors.at("labels") = Tensor::zeros(DType::f32, {4});
  CHECK_THAT(File(tensors).refused(), Contains("expected integers"));
  CHECK_THAT(File(four_rows()).refused(", features: pixels"), Contains("no tensor \"pixels\""));
  tensors = four_rows();
  tensors.at("features") = Tensor::zeros(DType::f32, {0, 3});
  CHECK_THAT(File(tensors).refused(), Contains("no value in it"));
  tensors.at("features") = Tensor::zeros(DType::f32, {});
  CHECK_THAT(File(tensors).refused(), Contains("is a scalar"));
  CHECK_THROWS_AS(test::open_data("{kind: safetensors, path: /nowhere}"), DataError);
}

TEST_CASE("safetensors: a value that is not finite is named when it is read", "[data][tensors]") {
  TensorMap tensors = four_rows();
  tensors.at("features").f32()[7] = std::numeric_limits<float>::infinity();
  const File file(tensors);
  const data::Source source = file.open(", test_tensor: take, test_below: 1");
  const std::vector<std::size_t> good{0, 2}, bad{0, 1};
  CHECK_NOTHROW(source.train->gather(good));
  CHECK_THROWS_WITH(source.train->gather(bad), Contains("row 2: value 1 is not finite"));
}

TEST_CASE("safetensors: spoken digits by six speakers", "[data][tensors]") {
  if (!test::has_shared("fsdd")) {
    WARN("no shared data");
    return;
  }
  const std::string yaml = "{kind: safetensors, path: " + test::shared_data() +
                           "/fsdd/features.safetensors, features: mfcc, labels: digit, "
                           "client: speaker, test_tensor: ";
  const data::Source source = test::open_data(yaml + "take, test_below: 5}");
  CHECK(source.train->size() == 2700);
  REQUIRE(source.test->size() == 300);
  CHECK(source.train->info().input_shape == Shape{98, 40});
  CHECK(source.train->info().classes.size() == 10);
  std::set<std::string> speakers;
  for (std::size_t i = 0; i < 2700; ++i) speakers.insert(source.train->field(i));
  CHECK(speakers ==
        std::set<std::string>{"george", "jackson", "lucas", "nicolas", "theo", "yweweler"});
  CHECK(source.test->gather(test::all_of(*source.test)).at("features").shape == Shape{300, 98, 40});
  // One speaker held out.
  const data::Source unseen = test::open_data(yaml + "speaker, test_equals: 3}");
  CHECK(unseen.test->size() == 500);
  CHECK(unseen.test->field(0) == "nicolas");
}

TEST_CASE("safetensors: keywords", "[data][tensors]") {
  if (!test::has_shared("speech-commands-300")) {
    WARN("no shared data");
    return;
  }
  const std::string yaml = "{kind: safetensors, path: " + test::shared_data() +
                           "/speech-commands-300/features.safetensors, features: mfcc, labels: ";
  const data::Source words = test::open_data(yaml + "word}");
  CHECK(words.train->size() == 300);
  CHECK(words.train->info().classes.size() == 30);
  CHECK(words.train->info().classes[0] == "bed");
  const data::Source twelve = test::open_data(yaml + "label12, label_names: labels12}");
  CHECK(twelve.train->info().classes.size() == 12);
  CHECK(twelve.train->info().classes[1] == "_unknown_");
}
