#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <set>

#include "data/plugins.hpp"

using namespace fedctl;
using test::all_of;
using test::open_data;

namespace {

constexpr std::size_t kPixels = 28 * 28;

Tensor pixels_of(const data::Dataset& dataset) {
  return dataset.gather(all_of(dataset)).at("pixels");
}

// Mean image of each group of examples.
template <class KeyOf>
auto means(const data::Dataset& dataset, const Tensor& pixels, const KeyOf& key_of) {
  using Key = decltype(key_of(std::size_t{0}));
  std::map<Key, std::vector<double>> sums;
  std::map<Key, double> counts;
  for (std::size_t i = 0; i < dataset.size(); ++i) {
    auto& sum = sums[key_of(i)];
    sum.resize(kPixels);
    for (std::size_t j = 0; j < kPixels; ++j)
      sum[j] += static_cast<double>(pixels.f32()[i * kPixels + j]);
    counts[key_of(i)] += 1;
  }
  for (auto& [key, sum] : sums) {
    for (double& value : sum) value /= counts[key];
  }
  return sums;
}

double gap(std::span<const float> a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t j = 0; j < kPixels; ++j) sum += std::pow(static_cast<double>(a[j]) - b[j], 2);
  return sum;
}

// Share of test images whose nearest class mean of the training images is their own class.
double nearest_centroid(const data::Source& source) {
  const Tensor train = pixels_of(*source.train), test = pixels_of(*source.test);
  const auto centroids =
      means(*source.train, train, [&](std::size_t i) { return source.train->label(i); });
  double right = 0;
  for (std::size_t i = 0; i < source.test->size(); ++i) {
    const auto image = test.f32().subspan(i * kPixels, kPixels);
    const auto nearest = std::ranges::min_element(
        centroids, {}, [&](const auto& centroid) { return gap(image, centroid.second); });
    right += nearest->first == source.test->label(i) ? 1 : 0;
  }
  return right / static_cast<double>(source.test->size());
}

}  // namespace

TEST_CASE("glyphs have the promised sizes, shapes and ranges", "[data][glyphs]") {
  const data::Source source = open_data("{kind: glyphs, hands: 7, per_hand: 5, test_per_class: 3}");
  CHECK(source.train->size() == 35);
  CHECK(source.test->size() == 30);
  CHECK(source.train->info().task == data::Task::classify);
  CHECK(source.train->info().input_shape == Shape{1, 28, 28});
  CHECK(source.train->info().classes.size() == 10);
  const data::Batch batch = source.train->gather(all_of(*source.train));
  CHECK(batch.at("pixels").shape == Shape{35, 1, 28, 28});
  CHECK(batch.at("labels").shape == Shape{35});
  const auto [low, high] = std::ranges::minmax(batch.at("pixels").f32());
  CHECK(low == 0.0F);
  CHECK(high == 1.0F);
  for (std::size_t i = 0; i < 35; ++i) {
    CHECK(batch.at("labels").i64()[i] == source.train->label(i));
    CHECK((source.train->label(i) >= 0 && source.train->label(i) < 10));
    CHECK(source.train->field(i) == "hand " + std::to_string(i / 5));
    CHECK(source.train->length(i) == 1);
  }
}

TEST_CASE("a gathered glyph does not depend on its neighbours", "[data][glyphs]") {
  const data::Source source = open_data("{kind: glyphs, hands: 3, per_hand: 4}");
  const std::vector<std::size_t> some = {9, 2, 9}, one = {2};
  const Tensor three = source.train->gather(some).at("pixels");
  const Tensor alone = source.train->gather(one).at("pixels");
  CHECK(std::ranges::equal(three.f32().subspan(kPixels, kPixels), alone.f32()));
  CHECK(std::ranges::equal(three.f32().first(kPixels), three.f32().last(kPixels)));
}

TEST_CASE("glyphs depend on nothing but the stream", "[data][glyphs]") {
  const std::string yaml = "{kind: glyphs, hands: 6, per_hand: 6, test_per_class: 4}";
  const data::Source a = open_data(yaml), b = open_data(yaml), c = open_data(yaml, 2);
  CHECK(a.train->gather(all_of(*a.train)) == b.train->gather(all_of(*b.train)));
  CHECK(a.test->gather(all_of(*a.test)) == b.test->gather(all_of(*b.test)));
  CHECK(a.train->gather(all_of(*a.train)) != c.train->gather(all_of(*c.train)));
}

TEST_CASE("more hands leave the first ones as they were", "[data][glyphs]") {
  const data::Source few = open_data("{kind: glyphs, hands: 3, per_hand: 4}");
  const data::Source many = open_data("{kind: glyphs, hands: 9, per_hand: 4}");
  const auto indices = all_of(*few.train);
  CHECK(few.train->gather(indices) == many.train->gather(indices));
}

TEST_CASE("labels count from 0 and names tell all twenty glyphs apart", "[data][glyphs]") {
  const data::Source first = open_data("{kind: glyphs, hands: 4, classes_from: 0, classes: 10}");
  const data::Source second = open_data("{kind: glyphs, hands: 4, classes_from: 10, classes: 10}");
  std::set<std::string> names;
  for (const data::Source* source : {&first, &second}) {
    const auto& classes = source->train->info().classes;
    names.insert(classes.begin(), classes.end());
    std::set<std::int64_t> labels;
    for (std::size_t i = 0; i < source->test->size(); ++i) labels.insert(source->test->label(i));
    CHECK(labels.size() == 10);
    CHECK(*labels.begin() == 0);
    CHECK(*labels.rbegin() == 9);
  }
  CHECK(names.size() == 20);
  CHECK(first.train->info().classes[0] == "glyph a");
  CHECK(second.train->info().classes[9] == "glyph t");
}

TEST_CASE("glyphs beyond the twentieth are refused", "[data][glyphs]") {
  CHECK_THROWS_WITH(open_data("{kind: glyphs, classes_from: 15, classes: 6}"),
                    Catch::Contains("21") && Catch::Contains("20 glyphs"));
}

TEST_CASE("the test set is by hands of its own, evenly over the classes", "[data][glyphs]") {
  const data::Source source = open_data("{kind: glyphs, hands: 12, test_per_class: 25}");
  std::set<std::string> train, shared;
  for (std::size_t i = 0; i < source.train->size(); ++i) train.insert(source.train->field(i));
  std::map<std::int64_t, int> counts;
  for (std::size_t i = 0; i < source.test->size(); ++i) {
    if (train.contains(source.test->field(i))) shared.insert(source.test->field(i));
    ++counts[source.test->label(i)];
  }
  CHECK(train.size() == 12);
  CHECK(shared.empty());
  CHECK(counts.size() == 10);
  for (const auto& [label, count] : counts) CHECK(count == 25);
}

TEST_CASE("hands differ: an image is nearer its own hand's mean", "[data][glyphs]") {
  const data::Source source = open_data("{kind: glyphs, classes: 1, hands: 20, per_hand: 40}");
  const Tensor pixels = pixels_of(*source.train);
  const auto by_hand =
      means(*source.train, pixels, [&](std::size_t i) { return source.train->field(i); });
  double own = 0;
  for (std::size_t i = 0; i < source.train->size(); ++i) {
    const auto image = pixels.f32().subspan(i * kPixels, kPixels);
    const auto nearest = std::ranges::min_element(
        by_hand, {}, [&](const auto& hand) { return gap(image, hand.second); });
    own += nearest->first == source.train->field(i) ? 1 : 0;
  }
  own /= static_cast<double>(source.train->size());
  INFO("own hand nearest: " << own << ", chance 0.05");
  CHECK(own > 0.2);
}

TEST_CASE("hands prefer some glyphs, mildly", "[data][glyphs]") {
  const data::Source source = open_data("{kind: glyphs, hands: 30, per_hand: 200}");
  std::map<std::string, std::map<std::int64_t, double>> counts;
  for (std::size_t i = 0; i < source.train->size(); ++i) {
    counts[source.train->field(i)][source.train->label(i)] += 1;
  }
  double most = 0;
  for (const auto& [hand, labels] : counts) {
    double highest = 0;
    for (const auto& [label, count] : labels) highest = std::max(highest, count / 200);
    most += highest / static_cast<double>(counts.size());
    CHECK(labels.size() >= 7);
  }
  INFO("mean share of a hand's favourite: " << most << ", 0.1 if there were no preference");
  CHECK(most > 0.15);
  CHECK(most < 0.4);
}

TEST_CASE("nearest centroid beats chance on unseen hands and is not enough", "[data][glyphs]") {
  const int from = GENERATE(0, 10);
  const double accuracy =
      nearest_centroid(open_data("{kind: glyphs, classes_from: " + std::to_string(from) + "}"));
  INFO("accuracy " << accuracy << " from glyph " << from << ", chance 0.1");
  CHECK(accuracy > 0.4);
  CHECK(accuracy < 0.97);
}
