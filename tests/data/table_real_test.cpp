// The real tables, where they are.
#include <chrono>

#include "data/table_folder.hpp"
#include "data/tokenizer.hpp"

using namespace fedctl;
using test::has_shared;
using test::open_data;
using test::shared_data;

namespace {

std::string with_words(const std::string& kind, const std::string& path, const std::string& more) {
  return "{kind: " + kind + ", path: " + shared_data() + '/' + path +
         ", tokenizer: " + shared_data() + "/tokenizers/bert-base-uncased, " + more + "}";
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("real tables: banking77, snips, sst2, ag-news, clinc150", "[data][table][shared]") {
  if (!has_shared("banking77")) return;
  const auto start = std::chrono::steady_clock::now();
  const data::Source banking = open_data(with_words("csv", "banking77", "label: category"));
  INFO("banking77 opens in " << seconds_since(start) << " s");
  CHECK(seconds_since(start) < 2);
  CHECK(banking.train->size() == 10003);
  CHECK(banking.test->size() == 3080);
  CHECK(banking.train->info().classes.size() == 77);
  CHECK(banking.train->info().classes[0] == "Refund_not_showing_up");
  const data::Batch all = banking.train->gather(test::all_of(*banking.train));
  CHECK(all.at("lengths").shape == Shape{10003});

  const data::Source snips = open_data(with_words("tsv", "snips", "label: intent"));
  CHECK(snips.train->size() == 13784);
  CHECK(snips.test->size() == 700);
  CHECK(snips.train->info().classes.size() == 7);

  const data::Source sst2 = open_data(
      with_words("tsv", "sst2", "text: sentence, test: " + shared_data() + "/sst2/dev.tsv"));
  CHECK(sst2.train->size() == 67349);
  CHECK(sst2.test->size() == 872);
  CHECK(sst2.train->info().classes == std::vector<std::string>{"0", "1"});

  const std::string numbered = "header: false, text: \"0\", label: \"1\"";
  const data::Source news = open_data(with_words("tsv", "ag-news/train_10k.tsv", numbered));
  CHECK(news.train->size() == 10001);
  CHECK(news.train->info().classes.size() == 4);
  const data::Source pairs = open_data(with_words(
      "csv", "ag-news/test.csv", "header: false, label: \"0\", text: \"1\", text_pair: \"2\""));
  CHECK(pairs.train->size() == 7600);
  CHECK(pairs.train->info().classes.size() == 4);

  const data::Source clinc =
      open_data(with_words("jsonl", "clinc150/data_full.json",
                           "text: \"0\", label: \"1\", split: train, test_split: test"));
  CHECK(clinc.train->size() == 15000);
  CHECK(clinc.test->size() == 4500);
  CHECK(clinc.train->info().classes.size() == 150);
}

TEST_CASE("real tables: gsm8k and dolly-fed9 are questions and answers", "[data][table][shared]") {
  if (!has_shared("gsm8k")) return;
  const std::string tokenizer = ", tokenizer: " + shared_data() + "/tokenizers/gpt2, longest: 512";
  const data::Source maths =
      open_data("{kind: jsonl, path: " + shared_data() + "/gsm8k" + tokenizer +
                ", prompt: \"{question}\\n\", response: answer, answer_after: \"####\"}");
  CHECK(maths.train->size() == 7473);
  CHECK(maths.test->size() == 1319);
  const auto exchange = maths.train->exchange(0);
  REQUIRE(exchange);
  CHECK(exchange->answer == "72");
  CHECK(maths.train->tokenizer()->decode(exchange->prompt).starts_with("Natalia sold clips"));

  const data::Source dolly =
      open_data("{kind: jsonl, path: " + shared_data() + "/dolly-fed9" + tokenizer +
                ", prompt: \"{instruction}\\n{context}\\n\", response: response, on_error: skip}");
  CHECK(dolly.train->size() + dolly.test->size() == 13461);
  CHECK(dolly.test->size() == 80);
  CHECK(dolly.train->field(0) == "client_0");
  CHECK(test::split("{kind: by_field}", *dolly.train, 9).size() == 9);
}

TEST_CASE("real tables: nsl-kdd and iot23 are features", "[data][table][shared]") {
  if (!has_shared("nsl-kdd")) return;
  const std::string kdd = shared_data() + "/nsl-kdd/";
  const data::Source attacks = open_data(
      "{kind: csv, header: false, path: " + kdd + "KDDTrain+_20Percent.txt.gz, test: " + kdd +
      "KDDTest+.txt.gz, label: \"41\", drop: [\"42\"], features: [\"*\"], "
      "scale: signed_log, classes: [normal], other: attack}");
  CHECK(attacks.train->size() == 25192);
  CHECK(attacks.test->size() == 22544);
  // 38 numbers, 3 protocols, 66 services, 11 flags.
  CHECK(attacks.train->info().input_shape == Shape{118});
  std::size_t normal = 0, tested = 0;
  for (std::size_t i = 0; i < attacks.train->size(); ++i) normal += attacks.train->label(i) == 0;
  for (std::size_t i = 0; i < attacks.test->size(); ++i) tested += attacks.test->label(i) == 0;
  CHECK(normal == 13449);
  CHECK(tested == 9711);

  const std::string iot = shared_data() + "/iot23/";
  const data::Source things = open_data(
      "{kind: csv, path: " + iot + "train_normal.csv.gz, test: " + iot +
      "test_abnormal.csv.gz, label: \"\", drop: [\"\"], features: [\"*\"], scale: signed_log}");
  CHECK(things.train->size() == 29539);
  CHECK(things.test->size() == 7728);
  CHECK(things.train->info().input_shape == Shape{8});
}
