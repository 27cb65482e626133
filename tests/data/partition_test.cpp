#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/errors.hpp"
#include "data/plugins.hpp"

using namespace fedctl;
using Catch::Contains;
using test::split;

namespace {

// Labels and owners given outright.
class Listed final : public data::Dataset {
 public:
  Listed(std::vector<std::int64_t> labels, std::vector<std::string> owners)
      : labels_(std::move(labels)), owners_(std::move(owners)) {}
  const data::DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return labels_.size(); }
  std::int64_t label(std::size_t index) const override { return labels_[index]; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t index) const override { return owners_[index]; }
  data::Batch gather(std::span<const std::size_t>) const override { return {}; }

 private:
  std::vector<std::int64_t> labels_;
  std::vector<std::string> owners_;
  data::DatasetInfo info_;
};

// `count` examples, label i % 10, owners "hand 0".."hand 11" in turn.
Listed ten_classes(std::size_t count) {
  std::vector<std::int64_t> labels;
  std::vector<std::string> owners;
  for (std::size_t i = 0; i < count; ++i) {
    labels.push_back(static_cast<std::int64_t>(i % 10));
    owners.push_back("hand " + std::to_string(i % 12));
  }
  return {labels, owners};
}

void check_disjoint_cover(const std::vector<data::Share>& shares, std::size_t size) {
  std::vector<int> times(size);
  for (const data::Share& share : shares) {
    CHECK(std::ranges::is_sorted(share.train));
    CHECK(std::ranges::is_sorted(share.holdout));
    for (const auto* list : {&share.train, &share.holdout}) {
      for (const std::size_t index : *list) ++times.at(index);
    }
  }
  CHECK(std::ranges::count(times, 1) == static_cast<std::ptrdiff_t>(size));
}

// Mean total variation distance between a client's label distribution and the whole set's, which is
// even over ten classes.
double skew(const std::vector<data::Share>& shares, const data::Dataset& train) {
  double sum = 0;
  for (const data::Share& share : shares) {
    std::vector<double> counts(10);
    for (const std::size_t i : share.train) counts[static_cast<std::size_t>(train.label(i))] += 1;
    for (const double count : counts) {
      sum += std::abs(count / static_cast<double>(share.train.size()) - 0.1) / 2;
    }
  }
  return sum / static_cast<double>(shares.size());
}

// A file in the temporary folder, gone at the end of the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text)
      : path_((std::filesystem::temp_directory_path() /
               ("fedctl_partition_" + std::to_string(reinterpret_cast<std::uintptr_t>(this))))
                  .string()) {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  std::string yaml() const { return "{kind: file, path: " + path_ + '}'; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("registries are sorted and complete", "[data][partition]") {
  const auto sorted_names = [](const config::Kinds& kinds) {
    std::vector<std::string> names;
    for (const config::Kind& kind : kinds) names.push_back(kind.name);
    CHECK(std::ranges::is_sorted(names));
    return names;
  };
  CHECK(sorted_names(data::dataset_kinds()).size() == data::datasets().size());
  CHECK(sorted_names(data::partitioner_kinds()) ==
        std::vector<std::string>{"by_field", "dirichlet", "feature_noise", "file", "iid",
                                 "quantity_skew", "shards"});
  CHECK_THROWS_AS(data::open({"nothing", nullptr, ""}, Rng(1)), ConfigError);
}

TEST_CASE("every partitioner deals every index once, and repeatably", "[data][partition]") {
  const std::string kind =
      GENERATE("iid", "dirichlet", "shards", "by_field", "quantity_skew", "feature_noise");
  const double holdout = GENERATE(0.0, 0.1, 0.5);
  const Listed train = ten_classes(600);
  INFO(kind << ", holdout " << holdout);
  const auto a = split(kind, train, 12, holdout), b = split(kind, train, 12, holdout);
  REQUIRE(a.size() == 12);
  check_disjoint_cover(a, train.size());
  for (std::size_t client = 0; client < a.size(); ++client) {
    const std::size_t all = a[client].train.size() + a[client].holdout.size();
    CHECK(a[client].holdout.size() ==
          static_cast<std::size_t>(std::floor(holdout * static_cast<double>(all) + 1e-9)));
    CHECK(a[client].train == b[client].train);
    CHECK(a[client].holdout == b[client].holdout);
  }
}

TEST_CASE("what is held out is drawn, not cut off", "[data][partition]") {
  const Listed train = ten_classes(600);
  const auto whole = split("iid", train, 3), held = split("iid", train, 3, 0.29);
  for (std::size_t client = 0; client < 3; ++client) {
    std::vector<std::size_t> both;
    std::ranges::merge(held[client].train, held[client].holdout, std::back_inserter(both));
    CHECK(both == whole[client].train);
    CHECK(held[client].holdout.size() == 58);  // 0.29 * 200, which is 57.99... in binary
    CHECK(held[client].holdout.front() < held[client].train.back());
    CHECK(held[client].holdout.back() > held[client].train.front());
  }
}

TEST_CASE("a client without a training example is named", "[data][partition]") {
  const Listed train = ten_classes(3);
  CHECK_THROWS_AS(split("iid", train, 4), DataError);
  CHECK_THROWS_WITH(split("iid", train, 4), Contains("client 3 of 4"));
  CHECK_THROWS_WITH(split("iid", train, 3, 1.0), Contains("client 0 of 3"));
  CHECK_NOTHROW(split("iid", train, 3, 0.9));
}

TEST_CASE("iid shares are even in size and labels", "[data][partition]") {
  const Listed train = ten_classes(1003);
  const auto shares = split("iid", train, 10);
  for (const data::Share& share : shares) {
    CHECK((share.train.size() == 100 || share.train.size() == 101));
  }
  CHECK(skew(shares, train) < 0.2);
  CHECK(split("iid", train, 10)[0].train != split("iid", train, 10, 0, 2)[0].train);
}

TEST_CASE("dirichlet's skew falls as alpha grows", "[data][partition]") {
  const Listed train = ten_classes(5000);
  double last = 1;
  for (const char* alpha : {"0.05", "0.3", "2", "20", "1000"}) {
    const double now =
        skew(split("{kind: dirichlet, alpha: " + std::string(alpha) + '}', train, 10), train);
    INFO("alpha " << alpha << ": skew " << now);
    CHECK(now < last);
    last = now;
  }
  CHECK(last < 0.05);
}

TEST_CASE("dirichlet keeps min_size or says that it cannot", "[data][partition]") {
  const Listed train = ten_classes(400);
  for (const auto& share : split("{kind: dirichlet, alpha: 0.5, min_size: 10}", train, 8)) {
    CHECK(share.train.size() >= 10);
  }
  CHECK_THROWS_AS(split("{kind: dirichlet, alpha: 0.001, min_size: 40}", train, 10), ConfigError);
  CHECK_THROWS_WITH(split("{kind: dirichlet, min_size: 41}", train, 10), Contains("41 of 400"));
  CHECK_THROWS_AS(split("{kind: dirichlet, alpha: 0}", train, 10), ConfigError);
}

TEST_CASE("shards give a client few labels and equal sizes", "[data][partition]") {
  const Listed train = ten_classes(1000);
  for (const data::Share& share : split("shards", train, 10)) {
    CHECK(share.train.size() == 100);
    std::set<std::int64_t> labels;
    for (const std::size_t i : share.train) labels.insert(train.label(i));
    CHECK(labels.size() <= 2);
  }
  CHECK_THROWS_WITH(split("{kind: shards, per_client: 101}", train, 10),
                    Contains("1010 shards of 1000 examples"));
}

TEST_CASE("by_field makes field i client i, in natural order", "[data][partition]") {
  const Listed train = ten_classes(48);
  const auto shares = split("by_field", train, 12);
  for (std::size_t client = 0; client < 12; ++client) {
    for (const std::size_t index : shares[client].train) {
      CHECK(train.field(index) == "hand " + std::to_string(client));
    }
  }
}

TEST_CASE("by_field with fewer clients deals the fields round", "[data][partition]") {
  const Listed train = ten_classes(48);
  const auto shares = split("by_field", train, 5);
  check_disjoint_cover(shares, train.size());
  for (std::size_t client = 0; client < 5; ++client) {
    for (const std::size_t index : shares[client].train) CHECK(index % 12 % 5 == client);
  }
}

TEST_CASE("by_field refuses more clients than fields, naming both", "[data][partition]") {
  const Listed train = ten_classes(50);
  CHECK_THROWS_AS(split("by_field", train, 13), ConfigError);
  CHECK_THROWS_WITH(split("by_field", train, 13), Contains("12 owners") && Contains("is 13"));
  // Hands 0 and 1 have five examples, the others four.
  CHECK_THROWS_WITH(split("{kind: by_field, min_size: 5}", train, 3),
                    Contains("2 owners of at least 5"));
  CHECK(split("{kind: by_field, min_size: 5}", train, 2)[1].train ==
        std::vector<std::size_t>{1, 13, 25, 37, 49});
}

TEST_CASE("a partition file is taken line by line", "[data][partition]") {
  const Listed train = ten_classes(5);
  const TemporaryFile unix_lines("1\n0\n1\n1\n0\n"), dos_lines("1\r\n0\r\n1\r\n1\r\n0");
  for (const TemporaryFile* file : {&unix_lines, &dos_lines}) {
    const auto shares = split(file->yaml(), train, 2);
    CHECK(shares[0].train == std::vector<std::size_t>{1, 4});
    CHECK(shares[1].train == std::vector<std::size_t>{0, 2, 3});
  }
}

TEST_CASE("a partition file that does not fit is refused with its line", "[data][partition]") {
  const Listed train = ten_classes(3);
  const auto refusal = [&](const std::string& text) {
    const TemporaryFile file(text);
    try {
      split(file.yaml(), train, 2);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK_THAT(refusal("0\n1\n"), Contains("2 lines") && Contains("3"));
  CHECK_THAT(refusal("0\n1\n0\n1\n"), Contains(":4: ") && Contains("one too many"));
  CHECK_THAT(refusal("0\n2\n0\n"), Contains(":2: ") && Contains("from 0 to 1"));
  CHECK_THAT(refusal("0\n-1\n0\n"), Contains(":2: "));
  CHECK_THAT(refusal("0\n\n0\n"), Contains(":2: "));
  CHECK_THAT(refusal("0\n1x\n0\n"), Contains(":2: "));
  CHECK_THAT(refusal("0\n0\n0\n"), Contains("client 1 of 2"));
  CHECK_THROWS_AS(split("{kind: file, path: /nowhere/at/all}", train, 2), DataError);
}

TEST_CASE("a partition file of JSON lists", "[data][partition]") {
  const Listed train = ten_classes(5);
  const TemporaryFile file(" {\"1\": [4, 0], \"0\": [3]}\n");
  const auto shares = split(file.yaml(), train, 2);
  CHECK(shares[0].train == std::vector<std::size_t>{3});
  CHECK(shares[1].train == std::vector<std::size_t>{0, 4});
  const auto refusal = [&](const std::string& text) {
    const TemporaryFile wrong(text);
    try {
      split(wrong.yaml(), train, 2);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK_THAT(refusal(R"({"0": [1], "2": [0]})"), Contains("key \"2\"") && Contains("from 0 to 1"));
  CHECK_THAT(refusal(R"({"0": [1], "x": [0]})"), Contains("key \"x\""));
  CHECK_THAT(refusal(R"({"0": [1], "0": [0]})"), Contains("client 0 stands there twice"));
  CHECK_THAT(refusal(R"({"0": [1], "1": [0, 5]})"),
             Contains("client 1, item 1: row 5") && Contains("5 training rows"));
  CHECK_THAT(refusal(R"({"0": [1, 2], "1": [2]})"), Contains("row 2 has been dealt already"));
  CHECK_THAT(refusal(R"({"0": [1, -2], "1": [2]})"), Contains("lists of row numbers"));
  CHECK_THAT(refusal(R"({"0": [[1]], "1": [2]})"), Contains("lists of row numbers"));
  CHECK_THAT(refusal(R"({"0": {"1": [2]}})"), Contains("lists of row numbers"));
  CHECK_THAT(refusal(R"({"0": 1})"), Contains("lists of row numbers"));
  CHECK_THAT(refusal(R"({"0": [1], "1": [2)"), Contains("not JSON"));
  CHECK_THAT(refusal(R"({"0": [1, 2]})"), Contains("client 1 of 2"));
}

TEST_CASE("quantity_skew's sizes follow its power law", "[data][partition]") {
  const Listed train = ten_classes(1100);
  const auto sizes = [&](const std::string& options, std::size_t clients) {
    std::vector<std::size_t> found;
    for (const auto& share : split("{kind: quantity_skew" + options + '}', train, clients))
      found.push_back(share.train.size());
    return found;
  };
  // 1 + 1/2 + 1/3 = 11/6, of 1097.
  CHECK(sizes(", alpha: 1", 3) == std::vector<std::size_t>{599, 300, 201});
  CHECK(sizes(", alpha: 0", 4) == std::vector<std::size_t>(4, 275));
  CHECK(sizes(", alpha: 100", 4) == std::vector<std::size_t>{1097, 1, 1, 1});
  CHECK(sizes(", alpha: 3, min_size: 100", 10).back() == 100);
  // Labels stay even: 0.1 +- what a random draw of 60 or more brings.
  CHECK(skew(split("{kind: quantity_skew, min_size: 60}", train, 10), train) < 0.2);
  CHECK_THROWS_AS(sizes(", min_size: 111", 10), ConfigError);
  CHECK_THROWS_WITH(sizes(", min_size: 111", 10), Contains("is 111") && Contains("1100"));
}

TEST_CASE("feature_noise grows from client to client and never changes", "[data][partition]") {
  const auto opened = [](const std::string& partition) {
    data::Source source = test::open_data("{kind: glyphs, hands: 3, per_hand: 40}");
    const auto shares = data::deal(test::from_yaml(data::partitioner_kinds(), partition), source, 5,
                                   0.2, Rng(1).stream("partition"));
    return std::pair(std::move(source), shares);
  };
  const auto [plain, plain_shares] = opened("iid");
  const auto [noisy, shares] = opened("{kind: feature_noise, sigma: 0.4}");
  const auto [again, again_shares] = opened("{kind: feature_noise, sigma: 0.4}");
  CHECK(noisy.train->size() == plain.train->size());
  for (std::size_t client = 0; client < 5; ++client) {
    const std::vector<std::size_t>& mine = shares[client].train;
    CHECK(mine == plain_shares[client].train);
    const data::Batch with = noisy.train->gather(mine), without = plain.train->gather(mine);
    CHECK(with.at("labels") == without.at("labels"));
    const auto a = with.at("pixels").f32(), b = without.at("pixels").f32();
    double square = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
      square += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    const double deviation = std::sqrt(square / static_cast<double>(a.size()));
    CHECK(deviation == Approx(0.1 * static_cast<double>(client)).epsilon(0.03).margin(1e-9));
    // Alone or in a batch, now or later: the same noise.
    const std::vector<std::size_t> last{mine.back()};
    const data::Batch alone = again.train->gather(last);
    CHECK(std::ranges::equal(alone.at("pixels").f32(), a.last(28 * 28)));
    // What is held out is the client's own data, with its noise.
    CHECK((noisy.train->gather(shares[client].holdout) ==
           plain.train->gather(shares[client].holdout)) == (client == 0));
  }
  CHECK(noisy.test->gather(test::all_of(*noisy.test)) ==
        plain.test->gather(test::all_of(*plain.test)));
}

TEST_CASE("feature_noise refuses texts", "[data][partition]") {
  data::Source source = test::open_data("phrases");
  CHECK_THROWS_AS(
      data::deal(test::from_yaml(data::partitioner_kinds(), "feature_noise"), source, 2, 0, Rng(1)),
      ConfigError);
}
