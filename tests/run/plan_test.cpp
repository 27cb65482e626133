#include "run/plan.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "wire/frame.hpp"

using namespace fedctl;
using namespace fedctl::run;
using Catch::Contains;

namespace {

Job job_of(const std::string& more) {
  const std::string text =
      "name: toy\nrounds: 7\nmodel: {kind: quadratic}\nadapter: {kind: full}\n"
      "data: {kind: quadratic_targets, rows: 4, cols: 5, rank: 2, clients: 12, "
      "partition: {kind: by_field}, holdout: 0}\n"
      "train: {epochs: 2, batch_size: 1, optimizer: {kind: sgd, lr: 0.05, momentum: 0}}\n";
  return make_job(read_experiment({text + more, "exp.yaml", {}}), 1);
}

Histogram two_clients() { return {{"a<b", "c"}, {{3, 0}, {1, 4}}}; }

}  // namespace

TEST_CASE("a forecast counts the frames that are sent", "[run][plan]") {
  Job job = job_of("clients: {count: 12, per_round: 6, quorum: 1.0}\n");
  const Forecast found = forecast(job, 3, "0.1.0");
  const Tensor vector = Tensor::of(std::vector<float>(20), {20});
  const auto task = wire::encode_frame(
      wire::FrameType::data, 1,
      wire::Message("train").with("round", std::int64_t{1}).with("weights", vector));
  CHECK(found.payload_down == 80);
  CHECK(found.down() == static_cast<double>(task.size()));
  const auto update = wire::encode_frame(wire::FrameType::data, 1,
                                         wire::Message("update")
                                             .with("examples", std::int64_t{1})
                                             .with("loss", 0.5)
                                             .with("steps", std::int64_t{1})
                                             .with("delta", vector));
  CHECK(found.up() == static_cast<double>(update.size()));
  CHECK(found.round_up() == 6 * found.up());
  CHECK(found.trainable == 20);
  CHECK(found.steps == 2);
  CHECK(found.peak_memory() == found.resident + 3 * 4 * 20 * 3);
  CHECK(found.server_memory() == found.resident + 5 * 80 + 6 * 80 + 12 * 10'600);
}

TEST_CASE("a forecast counts what the codecs make of it", "[run][plan]") {
  Job plain = job_of("clients: {count: 12}\n");
  Job coded = job_of("clients: {count: 12}\ncodec: {up: [{kind: float16}]}\n");
  const Forecast before = forecast(plain, 1, ""), after = forecast(coded, 1, "");
  CHECK(after.down() == before.down());
  CHECK(after.payload_up < before.payload_up);
  CHECK(after.payload_up >= 40);
}

TEST_CASE("a histogram of examples without classes has one column", "[run][plan]") {
  const Job job = job_of("clients: {count: 5}\n");
  const Histogram histogram = histogram_of(job);
  CHECK(histogram.columns() == 1);
  CHECK(histogram.totals() == std::vector<std::size_t>{3, 3, 2, 2, 2});
  CHECK_FALSE(histogram.large());
}

TEST_CASE("large histograms are printed in a few lines", "[run][plan]") {
  Forecast found;
  found.histogram = {{"a", "b"}, std::vector<std::vector<std::size_t>>(51, {2, 0})};
  found.histogram.counts[50] = {0, 9};
  REQUIRE(found.histogram.large());
  Experiment experiment;
  const std::string text = forecast_text(found, experiment);
  CHECK_THAT(text, Contains("1 / 1 / 1 of 2") && Contains("client 50 has 9 examples"));
  CHECK(std::ranges::count(text, '\n') < 25);
  found.histogram = {std::vector<std::string>(31, "x"), {std::vector<std::size_t>(31, 1)}};
  CHECK(found.histogram.large());
  CHECK_THAT(forecast_json(found, experiment), Contains("\"min\":31"));
}

TEST_CASE("names from files do no harm in text, JSON and SVG", "[run][plan]") {
  Forecast found;
  found.histogram = two_clients();
  found.histogram.classes[1] = "\x1b[2J\xff\n";
  Experiment experiment;
  CHECK(forecast_text(found, experiment).find('\x1b') == std::string::npos);
  CHECK_NOTHROW(forecast_json(found, experiment));
  const std::string svg = histogram_svg(found.histogram, "<t>&");
  CHECK_THAT(svg, Contains("a&lt;b") && Contains("&lt;t&gt;&amp;") && !Contains("\x1b"));
  // Three bars and two entries of the legend.
  std::size_t bars = 0;
  for (std::size_t at = 0; (at = svg.find("<rect", at)) != std::string::npos; ++at) ++bars;
  CHECK(bars == 5);
  CHECK_NOTHROW(histogram_svg({}, "nobody"));
}

TEST_CASE("a written deal is read back as it was", "[run][plan]") {
  const Job job = job_of("clients: {count: 5}\n");
  const std::size_t rows = job.data.train->size();
  for (const bool json : {false, true}) {
    const std::string path =
        (std::filesystem::temp_directory_path() / ("fedctl-deal-" + std::to_string(json))).string();
    std::ofstream(path) << partition_text(job.shares, rows, json);
    const Job again = make_job(
        read_experiment({"name: toy\nmodel: {kind: quadratic}\nadapter: {kind: full}\n"
                         "clients: {count: 5}\ndata: {kind: quadratic_targets, rows: 4, cols: 5, "
                         "rank: 2, clients: 12, holdout: 0, partition: {kind: file, path: " +
                             path + "}}\n",
                         "exp.yaml",
                         {}}),
        1);
    std::filesystem::remove(path);
    for (std::size_t client = 0; client < 5; ++client)
      CHECK(again.shares[client].train == job.shares[client].train);
  }
}

TEST_CASE("a deal that leaves rows out is written as JSON only", "[run][plan]") {
  const std::vector<data::Share> shares{{{0, 3}, {2}}, {{}, {}}};
  CHECK(partition_text(shares, 5, true) == "{\"0\":[0,2,3],\"1\":[]}\n");
  CHECK(partition_text({{{0, 1}, {}}}, 2, false) == "0\n0\n");
  CHECK_THROWS_WITH(partition_text(shares, 5, false), Contains("row 1 belongs to no client"));
}
