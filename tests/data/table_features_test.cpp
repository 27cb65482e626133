// Tables of numbers and words.
#include <cmath>

#include "data/table_folder.hpp"

using namespace fedctl;
using Catch::Contains;
using test::open_data;
using test::refusal;

namespace {

std::vector<float> features(const data::Dataset& dataset) {
  const data::Batch batch = dataset.gather(test::all_of(dataset));
  const auto span = batch.at("features").f32();
  return {span.begin(), span.end()};
}

}  // namespace

TEST_CASE("features: numbers are standardised by the training part, words become ones",
          "[data][table]") {
  const test::TableFolder folder;
  folder.write("train.csv", "id,x,kind,same,label\n1,2,tcp,5,n\n2,4,udp,5,a\n3,6,tcp,5,n\n");
  folder.write("test.csv", "id,x,kind,same,label\n9,4,icmp,6,a\n9,1e9,udp,5,a\n");
  const data::Source source =
      open_data("{kind: csv, path: " + folder.path + ", features: [\"*\"], drop: [id]}");
  CHECK(source.train->info().task == data::Task::classify);
  CHECK(source.train->info().input_shape == Shape{4});
  CHECK(source.train->info().classes == std::vector<std::string>{"a", "n"});
  CHECK(source.train->length(0) == 1);
  const float z = std::sqrt(1.5F);
  const std::vector<float> train = features(*source.train);
  const std::vector<float> expected{-z, 1, 0, 0, 0, 0, 1, 0, z, 1, 0, 0};
  REQUIRE(train.size() == expected.size());
  for (std::size_t i = 0; i < train.size(); ++i)
    CHECK(train[i] == Approx(expected[i]).margin(1e-6));
  // A word that training has not seen is all zeros; outliers are cut at 10.
  CHECK(features(*source.test) == std::vector<float>{0, 0, 0, 1, 10, 0, 1, 0});
}

TEST_CASE("features: plain, and on a signed logarithm", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.tsv", "-3\n0\n+3.0\n");
  const std::string common =
      "{kind: tsv, path: " + path + ", header: false, label: \"\", features: [\"0\"], scale: ";
  const data::Source plain = open_data(common + "none}");
  CHECK(features(*plain.train) == std::vector<float>{-3, 0, 3});
  CHECK(plain.train->info().classes.size() == 1);
  CHECK(plain.train->label(2) == 0);
  const std::vector<float> scaled = features(*open_data(common + "signed_log}").train);
  CHECK(scaled[0] == Approx(-std::sqrt(1.5)));  // deviation of -l, 0, l is l sqrt(2/3)
  CHECK(scaled[1] == 0);
  CHECK(scaled[2] == Approx(std::sqrt(1.5)));
}

TEST_CASE("features: numbers that are none, or not finite, are refused with their line",
          "[data][table]") {
  const test::TableFolder folder;
  const auto said = [&](const std::string& train, const std::string& test,
                        const std::string& more = "") {
    folder.write("train.csv", "x,y\n" + train);
    folder.write("test.csv", "x,y\n" + test);
    return refusal("{kind: csv, path: " + folder.path + ", label: \"\", features: [\"*\"]" + more +
                   "}");
  };
  CHECK_THAT(said("1,1\nnan,1\n", "1,1\n"),
             Contains("train.csv:3: \"x\" is \"nan\", expected a finite number"));
  CHECK_THAT(said("1,1\n1,1e40\n", "1,1\n"),
             Contains("train.csv:3: \"y\" is \"1e40\", expected a finite number"));
  CHECK_THAT(said("1,1\n", "1,1\n1,b\n"),
             Contains("test.csv:3: \"y\" is \"b\", a number in every row of the training part"));
  CHECK_THAT(said("1,1\n", "-inf,1\n"), Contains("test.csv:2: \"x\" is \"-inf\""));
  CHECK_THAT(said("1,1\n", "1,1\n", ", drop: [x, y]"), Contains("no column is left"));
  std::string many;
  for (int i = 0; i < 5000; ++i) many += "w" + std::to_string(i) + ",1\n";
  CHECK_THAT(said(many, "w1,1\n"), Contains("column \"x\" has more than 4096 distinct values"));
}

TEST_CASE("features: a row that is skipped counts in no mean", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.csv", "x,label\n1,a\ninf,b\n3,c\n");
  const data::Source source =
      open_data("{kind: csv, path: " + path + ", features: [x], on_error: skip}");
  CHECK(features(*source.train) == std::vector<float>{-1, 1});
  CHECK(source.train->info().classes == std::vector<std::string>{"a", "c"});
  CHECK(source.train->info().notes.size() == 1);
}
