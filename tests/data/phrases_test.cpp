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

using Tokens = std::vector<std::int64_t>;

Tokens tokens_of(const data::Dataset& dataset, std::size_t index) {
  const data::Batch batch = dataset.gather(std::vector<std::size_t>{index});
  const auto tokens = batch.at("tokens").i64();
  return {tokens.begin(), tokens.end()};
}

std::vector<Tokens> all_tokens(const data::Dataset& dataset) {
  std::vector<Tokens> all;
  for (const std::size_t index : all_of(dataset)) all.push_back(tokens_of(dataset, index));
  return all;
}

}  // namespace

TEST_CASE("phrases are twelve fields, 24 intents, words in range", "[data][phrases]") {
  const data::Source source = open_data("phrases");
  const data::Dataset& train = *source.train;
  CHECK(train.size() == 720);
  CHECK(source.test->size() == 240);
  CHECK(train.info().task == data::Task::classify);
  CHECK(train.info().classes.size() == 24);
  CHECK(train.info().input_shape.empty());
  CHECK(train.info().vocabulary_digest.size() == 64);
  std::set<std::string> fields, names(train.info().classes.begin(), train.info().classes.end());
  std::set<std::int64_t> labels, words;
  std::set<std::size_t> lengths;
  for (std::size_t i = 0; i < train.size(); ++i) {
    const Tokens tokens = tokens_of(train, i);
    CHECK(tokens.size() == train.length(i));
    CHECK(tokens.front() == 1);
    CHECK(tokens.back() == 2);
    fields.insert(train.field(i));
    labels.insert(train.label(i));
    lengths.insert(train.length(i));
    words.insert(tokens.begin(), tokens.end());
  }
  CHECK(fields.size() == 12);
  CHECK(names.size() == 24);
  CHECK(labels.size() == 24);
  CHECK(*labels.rbegin() == 23);
  CHECK(lengths.size() >= 8);
  // 0 pads and is never said; all other words are, by someone.
  CHECK(*words.begin() == 1);
  CHECK(*words.rbegin() == train.info().vocabulary - 1);
  CHECK(static_cast<std::int64_t>(words.size()) == train.info().vocabulary - 1);
}

TEST_CASE("phrases depend on nothing but the stream", "[data][phrases]") {
  const data::Source a = open_data("phrases"), b = open_data("phrases");
  const data::Source c = test::open_data("phrases", 2);
  CHECK(all_tokens(*a.train) == all_tokens(*b.train));
  CHECK(all_tokens(*a.test) == all_tokens(*b.test));
  CHECK(all_tokens(*a.train) != all_tokens(*c.train));
  // The words' numbers belong to the grammar, not to the draw: models may be exchanged.
  CHECK(a.train->info().vocabulary_digest == c.train->info().vocabulary_digest);
}

TEST_CASE("no test phrase occurs in training, all its words do", "[data][phrases]") {
  const data::Source source = open_data("{kind: phrases, per_client: 600, test_per_client: 200}");
  const std::vector<Tokens> train = all_tokens(*source.train), test = all_tokens(*source.test);
  const std::set<Tokens> seen(train.begin(), train.end());
  std::set<std::int64_t> words, intents;
  for (const Tokens& phrase : train) words.insert(phrase.begin(), phrase.end());
  std::size_t known = 0, unknown_words = 0;
  for (const Tokens& phrase : test) {
    known += seen.contains(phrase) ? 1U : 0U;
    for (const std::int64_t word : phrase) unknown_words += words.contains(word) ? 0U : 1U;
  }
  for (std::size_t i = 0; i < source.test->size(); ++i) intents.insert(source.test->label(i));
  CHECK(known == 0);
  CHECK(unknown_words == 0);
  CHECK(intents.size() == 24);
}

TEST_CASE("a field sees its domain's four intents", "[data][phrases]") {
  const data::Source source = open_data("phrases");
  std::map<std::string, std::set<std::int64_t>> intents;
  for (std::size_t i = 0; i < source.train->size(); ++i) {
    intents[source.train->field(i)].insert(source.train->label(i));
  }
  for (const auto& [field, labels] : intents) CHECK(labels.size() == 4);
  CHECK(intents.at("music polite") == intents.at("music casual"));
  CHECK(intents.at("music polite") != intents.at("bank polite"));
}

TEST_CASE("the intent can be told from the words", "[data][phrases]") {
  // Naive Bayes on words, learned from training phrases, right on most test phrases.
  const data::Source source = open_data("phrases");
  std::map<std::int64_t, std::map<std::int64_t, double>> counts;
  std::map<std::int64_t, double> totals;
  for (std::size_t i = 0; i < source.train->size(); ++i) {
    for (const std::int64_t word : tokens_of(*source.train, i)) {
      counts[source.train->label(i)][word] += 1;
      totals[source.train->label(i)] += 1;
    }
  }
  const auto vocabulary = static_cast<double>(source.train->info().vocabulary);
  double right = 0;
  for (std::size_t i = 0; i < source.test->size(); ++i) {
    const Tokens phrase = tokens_of(*source.test, i);
    const auto best = std::ranges::max_element(totals, {}, [&](const auto& total) {
      double score = 0;
      for (const std::int64_t word : phrase) {
        const double count = counts.at(total.first)[word];
        score += std::log((count + 0.1) / (total.second + 0.1 * vocabulary));
      }
      return score;
    });
    right += best->first == source.test->label(i) ? 1 : 0;
  }
  CHECK(right / static_cast<double>(source.test->size()) > 0.9);
}

TEST_CASE("as language, a label is the next word", "[data][phrases]") {
  const data::Source source = open_data("{kind: phrases, task: language, per_client: 5}");
  CHECK(source.train->info().task == data::Task::language);
  CHECK(source.train->info().classes.empty());
  const data::Batch batch = source.train->gather(std::vector<std::size_t>{7});
  const auto tokens = batch.at("tokens").i64(), labels = batch.at("labels").i64();
  REQUIRE(tokens.size() == source.train->length(7));
  REQUIRE(labels.size() == tokens.size());
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) CHECK(labels[i] == tokens[i + 1]);
  CHECK(labels.back() == 2);
  CHECK(source.train->label(7) == 0);
}
