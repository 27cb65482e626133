// Rows as examples: pairs, language modelling, prompts with responses.
#include "data/table_folder.hpp"
#include "data/tokenizer.hpp"

using namespace fedctl;
using Catch::Contains;
using test::open_data;
using test::refusal;
using test::values;
using Numbers = std::vector<std::int64_t>;

namespace {

constexpr std::int64_t kNone = data::kIgnore;

data::Batch only(const data::Source& source) {
  return source.train->gather(test::all_of(*source.train));
}

}  // namespace

TEST_CASE("tables: a pair of texts has segments", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.csv", "text,then,label\nyes no,a,1\nb,c c,0\n");
  const data::Batch batch = only(open_data(
      "{kind: csv, path: " + path + ", text_pair: then, tokenizer: " + folder.words() + "}"));
  CHECK(values(batch, "tokens") == Numbers{2, 4, 5, 3, 7, 3, 2, 8, 3, 9, 9, 3});
  CHECK(values(batch, "segments") == Numbers{0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1});
  CHECK(values(batch, "lengths") == Numbers{6, 6});
  CHECK(values(batch, "labels") == Numbers{1, 0});
}

TEST_CASE("tables: text without a label is learned whole", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.jsonl", "{\"text\":\"ab\"}\n{\"text\":\"abcabcabc\"}\n");
  const data::Source source =
      open_data("{kind: jsonl, path: " + path +
                ", label: \"\", longest: 8, tokenizer: " + folder.letters() + "}");
  CHECK(source.train->info().task == data::Task::language);
  CHECK(source.train->info().classes.empty());
  CHECK(source.train->info().vocabulary == 263);
  CHECK(source.train->info().vocabulary_digest == source.train->tokenizer()->digest());
  CHECK(source.train->length(0) == 5);
  CHECK(source.train->length(1) == 8);
  CHECK_FALSE(source.train->exchange(0));
  const data::Batch batch = only(source);
  CHECK(values(batch, "tokens") ==
        Numbers{1, 259, 260, 261, 2, 1, 259, 260, 261, 262, 260, 261, 262});
  CHECK(values(batch, "labels") ==
        Numbers{259, 260, 261, 2, kNone, 259, 260, 261, 262, 260, 261, 262, kNone});
}

TEST_CASE("tables: of prompt and response the response is learned", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write(
      "t.jsonl", "{\"q\":\"a\",\"r\":\"b # c \"}\n{\"q\":\"b\",\"more\":\"c\",\"r\":\"a\"}\n");
  const std::string common = "{kind: jsonl, path: " + path + ", tokenizer: " + folder.letters() +
                             ", response: r, answer_after: \"#\", ";
  const data::Source source = open_data(common + "prompt: \"{q}{more}\"}");
  const data::Batch batch = source.train->gather(std::vector<std::size_t>{1});
  CHECK(values(batch, "tokens") == Numbers{1, 259, 261, 262, 259, 260, 2});
  CHECK(values(batch, "labels") == Numbers{kNone, kNone, kNone, 259, 260, 2, kNone});
  const auto exchange = source.train->exchange(0);
  REQUIRE(exchange);
  CHECK(exchange->prompt == Numbers{1, 259, 260});
  CHECK(exchange->answer == "c");
  CHECK(data::answer_in("so # b # c ", exchange->answer_after) == exchange->answer);
  CHECK(data::answer_in(" no mark ", "#") == "no mark");
  // A column in braces may lack in an object; the prompt itself may not.
  CHECK_THAT(refusal(common + "prompt: more}"), Contains("t.jsonl:1: no \"more\" in it"));
}

TEST_CASE("tables: braces are doubled, and must close", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.csv", "q,r\na,b\n");
  const std::string common =
      "{kind: csv, path: " + path + ", tokenizer: " + folder.letters() + ", response: r, ";
  const data::Batch batch = only(open_data(common + "prompt: \"{{{q}}}\"}"));
  CHECK(values(batch, "tokens") == Numbers{1, 259, 3 + '{', 260, 3 + '}', 259, 261, 2});
  CHECK_THAT(refusal<ConfigError>(common + "prompt: \"{q\"}"),
             Contains("\"{q\" is no column in braces"));
  CHECK_THAT(refusal(common + "prompt: \"{p}\"}"), Contains("t.csv:1: no column \"p\""));
}

TEST_CASE("tables: what is too long loses the prompt's front, then the response's end",
          "[data][table]") {
  const test::TableFolder folder;
  const std::string path =
      folder.write("t.csv", "q,r\nabcabcabc,ab\nabcabcabc,abcabcabc\nab,abcabcabc\n");
  const data::Source source =
      open_data("{kind: csv, path: " + path +
                ", longest: 8, prompt: q, response: r, tokenizer: " + folder.letters() + "}");
  const auto tokens = [&](std::size_t index) {
    return values(source.train->gather(std::vector<std::size_t>{index}), "tokens");
  };
  CHECK(tokens(0) == Numbers{1, 260, 261, 262, 259, 260, 261, 2});
  CHECK(tokens(1) == Numbers{1, 260, 261, 262, 259, 260, 261, 262});
  CHECK(tokens(2) == Numbers{1, 259, 260, 261, 259, 260, 261, 262});
  CHECK(source.train->exchange(1)->prompt == Numbers{1, 260, 261, 262});
}

TEST_CASE("tables: options that do not go together are configuration errors", "[data][table]") {
  const test::TableFolder folder;
  const std::string common = "{kind: csv, path: " + folder.write("t.csv", "text,label\nyes,y\n");
  const auto said = [&](const std::string& more) {
    return refusal<ConfigError>(common + ", " + more + "}");
  };
  const std::string words = "tokenizer: " + folder.words();
  CHECK_THAT(said("header: true"), Contains("data.tokenizer is required"));
  CHECK_THAT(said(words + ", prompt: text"),
             Contains("data.prompt is given without data.response"));
  CHECK_THAT(said(words + ", response: text"),
             Contains("data.response is given without data.prompt"));
  CHECK_THAT(said(words + ", features: [text], prompt: text, response: text"),
             Contains("data.features and data.prompt"));
  CHECK_THAT(said(words + ", other: x"), Contains("data.other is given without data.classes"));
  CHECK_THAT(said(words + ", classes: [a, b], other: a"), Contains("names \"a\" twice"));
  CHECK_THAT(said(words + ", text: \"\""), Contains("are all empty"));
  CHECK_THAT(said("features: [label]"), Contains("which is also data.label"));
  CHECK_THAT(said("split: train"), Contains("split"));  // JSON's alone
}
