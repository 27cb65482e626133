#include "run/quality.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

using namespace fedctl;
using namespace fedctl::run;

namespace {

std::string line_of(const std::optional<Quality>& quality, data::Task task) {
  journal::Event event("round");
  describe(quality, task, event);
  return journal::Journal("", {"t", "server", {}}, [] { return std::int64_t{0}; }).format(1, event);
}

std::string line_of(const std::vector<learn::Scores>& clients, data::Task task) {
  journal::Event event("round");
  describe(clients, task, event);
  return journal::Journal("", {"t", "server", {}}, [] { return std::int64_t{0}; }).format(1, event);
}

}  // namespace

TEST_CASE("the clients' spread is mean, nearest-rank tenth and least", "[run][quality]") {
  const Spread one = spread_of({0.5});
  CHECK((one.mean == 0.5 && one.p10 == 0.5 && one.worst == 0.5));
  std::vector<double> values(20);
  std::iota(values.rbegin(), values.rend(), 1);  // 20, 19, ..., 1
  const Spread twenty = spread_of(values);
  CHECK(twenty.mean == 10.5);
  CHECK(twenty.p10 == 2);  // rank ceil(0.1 * 20)
  CHECK(twenty.worst == 1);
  values.push_back(21);
  CHECK(spread_of(values).p10 == 3);  // rank ceil(2.1)
  CHECK(spread_of({4, 3, 2, 1, 5, 6, 7, 8, 9, 10}).p10 == 1);
}

TEST_CASE("clients count by their examples in accuracy and loss, each once in the spread",
          "[run][quality]") {
  const std::vector<learn::Scores> clients = {{.loss_sum = 2, .correct = 1, .count = 2},
                                              {.loss_sum = 1, .correct = 8, .count = 8}};
  const auto quality = pooled(clients, data::Task::classify);
  REQUIRE(quality);
  CHECK(*quality->accuracy == 0.9);
  CHECK(quality->loss == 0.3);
  CHECK_THAT(line_of(clients, data::Task::classify),
             Catch::Contains(
                 R"("client_accuracy":{"mean":0.75,"p10":0.5,"worst":0.5},"client_loss":0.5625)"));
  CHECK_THAT(line_of(clients, data::Task::regress),
             Catch::Contains(R"("client_accuracy":null,"client_loss":0.5625)"));
  CHECK_FALSE(pooled({}, data::Task::classify));
  CHECK_THAT(line_of(std::vector<learn::Scores>{}, data::Task::classify),
             Catch::Contains(R"("client_accuracy":null,"client_loss":null)"));
}

TEST_CASE("metrics stand behind the loss under their own names, null where undefined",
          "[run][quality]") {
  Quality quality{.accuracy = 0.5, .loss = 1, .metrics = {{"f1", 0.25}, {"auc", std::nan("")}}};
  CHECK_THAT(
      line_of(quality, data::Task::classify),
      Catch::Contains(R"("accuracy":0.5,"loss":1.0,"f1":0.25,"auc":null,"auc_nonfinite":"nan")"));
  CHECK_THAT(line_of(std::nullopt, data::Task::classify),
             Catch::Contains(R"("accuracy":null,"loss":null)"));
}

TEST_CASE("the best model is the one by the metric that is named", "[run][quality]") {
  const Quality quality{.accuracy = 0.5, .loss = 2, .metrics = {{"f1", 0.25}}};
  CHECK(score_of(quality, "auto", data::Task::classify) == 0.5);
  CHECK(score_of(quality, "auto", data::Task::language) == -2);
  CHECK(score_of(quality, "accuracy", data::Task::language) == 0.5);
  CHECK(score_of(quality, "loss", data::Task::classify) == -2);
  CHECK(score_of(quality, "f1", data::Task::classify) == 0.25);
  CHECK(std::isnan(score_of(quality, "auc", data::Task::classify)));
  CHECK(score_of(Quality{{}, 3, {}, 0}, "auto", data::Task::regress) == -3);
}

namespace {

struct Asked final : data::Dataset {
  data::DatasetInfo what;
  const data::DatasetInfo& info() const override { return what; }
  std::size_t size() const override { return 1; }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t) const override { return ""; }
  data::Batch gather(std::span<const std::size_t>) const override { return {}; }
};

}  // namespace

TEST_CASE("what the data have not is refused", "[run][quality]") {
  Asked data;
  data::DatasetInfo& info = data.what;
  info.task = data::Task::regress;
  EvaluateOptions options;
  CHECK_NOTHROW(check_evaluate(options, data));
  options.metrics = {"f1"};
  CHECK_THROWS_AS(check_evaluate(options, data), ConfigError);
  info.task = data::Task::language;
  CHECK_THROWS_AS(check_evaluate(options, data), ConfigError);
  options.metrics = {kExactMatch};
  CHECK_THROWS_AS(check_evaluate(options, data), ConfigError);  // texts without answers
  options.metrics = {"f1"};
  info.task = data::Task::classify;
  CHECK_NOTHROW(check_evaluate(options, data));
  options = {};
  options.best = "accuracy";
  info.task = data::Task::regress;
  CHECK_THROWS_AS(check_evaluate(options, data), ConfigError);
}
