// The three file formats: what they mean, and what is refused.
#include "data/table_folder.hpp"

using namespace fedctl;
using Catch::Contains;
using test::open_data;
using test::refusal;
using test::values;

namespace {

// "{kind: csv, path: ..., tokenizer: ..., more}"
std::string yaml(const std::string& kind, const std::string& path, const test::TableFolder& folder,
                 const std::string& more = "") {
  return "{kind: " + kind + ", path: " + path + ", tokenizer: " + folder.words() +
         (more.empty() ? "" : ", " + more) + "}";
}

}  // namespace

TEST_CASE("csv: quotes hold commas, line ends and doubled quotes", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write(
      "t.csv", "\xef\xbb\xbftext,label\r\n\"a, b\nc\",\"say \"\"x\"\"\"\r\n\r\nyes,y\n");
  const data::Source source = open_data(yaml("csv", path, folder));
  REQUIRE(source.train->size() == 2);
  CHECK(source.test->size() == 0);
  CHECK(source.train->info().classes == std::vector<std::string>{"say \"x\"", "y"});
  CHECK(source.train->label(0) == 0);
  CHECK(source.train->label(1) == 1);
  const data::Batch batch = source.train->gather(test::all_of(*source.train));
  CHECK(values(batch, "tokens") == std::vector<std::int64_t>{2, 7, 1, 8, 9, 3, 2, 4, 3});
  CHECK(values(batch, "lengths") == std::vector<std::int64_t>{6, 3});
  CHECK(values(batch, "labels") == std::vector<std::int64_t>{0, 1});
  CHECK(batch.count("segments") == 0);
}

TEST_CASE("csv: without a header columns are numbers", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.csv", "0,yes\n1,no\n0,maybe");
  const data::Source source =
      open_data(yaml("csv", path, folder, "header: false, text: \"1\", label: \"0\""));
  REQUIRE(source.train->size() == 3);
  CHECK(source.train->label(1) == 1);
  CHECK(values(source.train->gather(std::vector<std::size_t>{2}), "tokens") ==
        std::vector<std::int64_t>{2, 6, 3});
}

TEST_CASE("tsv: a quote is a letter", "[data][table]") {
  const test::TableFolder folder;
  folder.write("train.tsv", "label\ttext\r\ny\t\"yes\r\nn\tno\r\n");
  folder.pack("test.tsv.gz", "text\tlabel\nmaybe\tn\n");
  const data::Source source = open_data(yaml("tsv", folder.path, folder));
  REQUIRE(source.train->size() == 2);
  REQUIRE(source.test->size() == 1);
  CHECK(values(source.train->gather(std::vector<std::size_t>{0}), "tokens") ==
        std::vector<std::int64_t>{2, 1, 4, 3});
  CHECK(source.test->label(0) == 0);
  CHECK(source.test->info().classes == source.train->info().classes);
}

TEST_CASE("jsonl: objects, lists, numbers and documents", "[data][table]") {
  const test::TableFolder folder;
  const std::string lines = folder.write(
      "t.jsonl",
      "{\"text\": \"yes\", \"label\": 1, \"more\": [1, {}]}\n\n{\"label\":true,\"text\":\"no\"}");
  const data::Source source = open_data(yaml("jsonl", lines, folder));
  CHECK(source.train->info().classes == std::vector<std::string>{"1", "true"});
  CHECK(values(source.train->gather(std::vector<std::size_t>{1, 0}), "tokens") ==
        std::vector<std::int64_t>{2, 5, 3, 2, 4, 3});

  const std::string document = folder.write(
      "t.json", "{\"train\": [[\"yes\", \"y\"], [\"no\", \"n\"]],\n \"oos\": [[\"a\", \"n\"]]}");
  const data::Source split = open_data(
      yaml("jsonl", document, folder, "split: train, test_split: oos, text: \"0\", label: \"1\""));
  CHECK(split.train->size() == 2);
  CHECK(split.test->size() == 1);
  CHECK_THAT(refusal(yaml("jsonl", document, folder, "split: trian")),
             Contains("t.json: no list under \"trian\"") && Contains("did you mean \"train\"?"));
  CHECK_THAT(refusal(yaml("jsonl", document, folder)), Contains("not a list of records"));
}

TEST_CASE("tables: one file a client makes it the owner; so does a column", "[data][table]") {
  const test::TableFolder folder;
  folder.pack("client_2.jsonl.gz", "{\"text\":\"yes\",\"label\":\"y\"}\n");
  folder.write("client_10.jsonl",
               "{\"text\":\"no\",\"label\":\"n\"}\n{\"text\":\"a\",\"label\":\"y\"}\n");
  folder.write("global_test.jsonl", "{\"text\":\"b\",\"label\":\"n\"}\n");
  const data::Source source = open_data(yaml("jsonl", folder.path, folder));
  REQUIRE(source.train->size() == 3);
  CHECK(source.test->size() == 1);
  const auto shares = test::split("{kind: by_field}", *source.train, 2);
  REQUIRE(shares[0].train.size() == 1);
  CHECK(source.train->field(shares[0].train[0]) == "client_2");
  CHECK(source.train->field(shares[1].train[1]) == "client_10");
  const std::string table = folder.write("t.csv", "text,label,who\nyes,y,Ann\nno,n,Bo\nno,n,Ann\n");
  const data::Source owned = open_data(yaml("csv", table, folder, "client: who"));
  CHECK(owned.train->field(0) == "Ann");
  CHECK(owned.train->field(1) == "Bo");
  CHECK(owned.train->field(2) == "Ann");
  folder.write("client_2.jsonl", "{\"text\":\"yes\",\"label\":\"y\"}\n");
  CHECK_THAT(refusal(yaml("jsonl", folder.path, folder)), Contains("the same client as"));
}

TEST_CASE("tables: what is wrong with a file is said with its line", "[data][table]") {
  const test::TableFolder folder;
  const auto said = [&](const std::string& kind, const std::string& bytes,
                        const std::string& more = "") {
    return refusal(yaml(kind, folder.write("t." + kind, bytes), folder, more));
  };
  CHECK_THAT(said("csv", "text,label\nyes,y\nno\n"),
             Contains("t.csv:3: 1 column, expected 2 | a cell with a comma"));
  CHECK_THAT(said("csv", "text,label\n\"a\nb\",y\nno,\"n\n\nyes,y\n"),
             Contains("t.csv:4: a quote that is opened here is not closed"));
  CHECK_THAT(said("csv", "text,label\n\"a\nb\"x,y\n"),
             Contains("t.csv:3: a letter behind a closing quote"));
  CHECK_THAT(said("csv", "text,lable\nyes,y\n"),
             Contains("t.csv:1: no column \"label\" | did you mean \"lable\"?"));
  CHECK_THAT(said("csv", "text,label,text\nyes,y,z\n"),
             Contains("t.csv:1: two columns are named \"text\""));
  CHECK_THAT(said("csv", ""), Contains("t.csv: empty"));
  CHECK_THAT(said("csv", "text,label\n\n"), Contains("t.csv: no row that can be used"));
  CHECK_THAT(said("csv", "text,label\nyes,y\n  ,y\n"), Contains("t.csv:3: \"text\" is empty"));
  CHECK_THAT(said("csv", "text,label\nyes,\n"), Contains("t.csv:2: a label of 0 bytes"));
  CHECK_THAT(said("tsv", "text\tlabel\nyes\ty\tz\n"), Contains("t.tsv:2: 3 columns, expected 2"));
  CHECK_THAT(said("tsv", "text\tlabel\n\xff\ty\n"),
             Contains("t.tsv:2: not UTF-8, at byte 0 of it"));
  CHECK_THAT(said("tsv", "text\tlabel\nlong enough a text \xed\xa0\x80\ty\n"),
             Contains("t.tsv:2: not UTF-8, at byte 19 of it"));
  CHECK_THAT(said("tsv", std::string("text\tlabel\nyes no\0maybe\ty\n", 26)),
             Contains("t.tsv:2: a NUL byte, at byte 6 of it"));
  CHECK_THAT(said("tsv", "text\tlabel\n" + std::string((16U << 20) + 1, 'a') + "\ty\n"),
             Contains("t.tsv:2: longer than 16777216 bytes"));
  CHECK_THAT(
      said("tsv", "text\tlabel\nyes\tnoo\n", "classes: [yes, no]"),
      Contains("t.tsv:2: label \"noo\" is none of the 2 of data.classes | did you mean \"no\""));
}

TEST_CASE("jsonl: what is wrong with a line is said", "[data][table]") {
  const test::TableFolder folder;
  const auto said = [&](const std::string& line) {
    return refusal(
        yaml("jsonl", folder.write("t.jsonl", "{\"text\":\"yes\",\"label\":\"y\"}\n" + line + "\n"),
             folder));
  };
  CHECK_THAT(said("{\"text\": yes}"), Contains("t.jsonl:2: not JSON, at byte 10 of it"));
  CHECK_THAT(said("{\"text\": \"yes\", \"lable\": 1}"),
             Contains("t.jsonl:2: no \"label\" in it | did you mean \"lable\"?"));
  CHECK_THAT(said("{\"text\": \"yes\", \"text\": \"no\", \"label\": 1}"),
             Contains("t.jsonl:2: \"text\" stands in it twice"));
  CHECK_THAT(said("{\"text\": [\"yes\"], \"label\": 1}"),
             Contains("t.jsonl:2: \"text\" is a list or an object"));
  CHECK_THAT(said("7"), Contains("t.jsonl:2: not a JSON object"));
  CHECK_THAT(said("null"), Contains("t.jsonl:2: null, expected an object"));
  CHECK_THAT(said("{\"text\": \"yes\", \"label\": 1e999}"),
             Contains("t.jsonl:2: a number that is not finite"));
  CHECK_THAT(said("{\"text\": \"\xff\", \"label\": 1}"), Contains("t.jsonl:2: not UTF-8"));
  CHECK_THAT(said("{\"text\": \"a\\u0000\", \"label\": 1}"), Contains("t.jsonl:2: a NUL byte"));
  CHECK_THAT(said("{\"text\": \"yes\", \"label\": 1, \"deep\": " + std::string(100000, '[')),
             Contains("t.jsonl:2: nested more than 64 deep"));
  CHECK_THAT(refusal(yaml("jsonl", folder.write("t.json", "[\n{\"text\":\n"), folder)),
             Contains("t.json:3: not JSON"));
  CHECK_THAT(
      refusal(yaml("jsonl", folder.write("t.json", "[{\"text\":\"a\",\"label\":1}, {}]"), folder)),
      Contains("t.json: element 2: no \"label\" in it | nothing stands in it"));
}

TEST_CASE("tables: rows that cannot be used are skipped and counted if so asked", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.tsv", "text\tlabel\nyes\ty\nno\n\tn\nno\tn\n");
  const data::Source source = open_data(yaml("tsv", path, folder, "on_error: skip"));
  CHECK(source.train->size() == 2);
  REQUIRE(source.train->info().notes.size() == 1);
  CHECK_THAT(source.train->info().notes[0],
             Contains("2 of 4 rows skipped") && Contains("t.tsv:3: 1 column, expected 2"));
  const std::string broken = folder.write("t.csv", "text,label\nyes,y\n\"no,n\nno,n\n");
  CHECK_THAT(refusal(yaml("csv", broken, folder, "on_error: skip")),
             Contains("t.csv:3: a quote that is opened here"));
}

TEST_CASE("tables: classes are the training part's, or as given", "[data][table]") {
  const test::TableFolder folder;
  folder.write("train.tsv", "text\tlabel\nyes\ty\nno\tn\n");
  folder.write("test.tsv", "text\tlabel\nyes\ty\nno\tx\n");
  CHECK_THAT(refusal(yaml("tsv", folder.path, folder)),
             Contains("test.tsv:3: label \"x\" is none of the 2 classes of the training part"));
  const data::Source source =
      open_data(yaml("tsv", folder.path, folder, "classes: [y], other: rest"));
  CHECK(source.train->info().classes == std::vector<std::string>{"y", "rest"});
  CHECK(source.train->label(1) == 1);
  CHECK(source.test->label(0) == 0);
  CHECK(source.test->label(1) == 1);
}

TEST_CASE("tables: a file that is changed while it is used is noticed", "[data][table]") {
  const test::TableFolder folder;
  const std::string path = folder.write("t.tsv", "text\tlabel\nyes\ty\nno\tn\n");
  const data::Source source = open_data(yaml("tsv", path, folder));
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "text\tlabel\nyes\ny\n";
  CHECK_THROWS_WITH(source.train->gather(std::vector<std::size_t>{0}),
                    Contains("t.tsv: byte 11: not the row that was here"));
}

TEST_CASE("tables: a damaged file opens or is refused, and nothing else", "[data][table]") {
  const test::TableFolder folder;
  const std::string csv = "text,label\n\"yes, \"\"no\"\"\nb\",y\nno,n\n\"a\",\"y\"\r\nc,n\n";
  const std::string jsonl =
      "{\"text\": \"yes\", \"label\": 1}\n{\"label\": 2e1, \"text\": \"no\", \"x\": [{}]}\n[\"a\", "
      "null]\n";
  const std::string alphabet = "\",\n\r\t{}[]:\\0e\xc3\xff";
  const std::string kind = GENERATE("csv", "tsv", "jsonl");
  const std::string whole = kind == "jsonl" ? jsonl : csv;
  Rng rng = Rng(7).stream(kind);
  std::size_t opened = 0, refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string bytes =
        whole.substr(0, whole.size() - (round % 2 == 0 ? 0 : rng.below(whole.size())));
    for (std::uint64_t i = rng.below(4); i > 0; --i)
      bytes[rng.below(bytes.size())] = alphabet[rng.below(alphabet.size())];
    const std::string path = folder.write("t." + kind, bytes);
    try {
      const data::Source source = open_data(yaml(kind, path, folder, "on_error: skip"));
      source.train->gather(test::all_of(*source.train));
      ++opened;
    } catch (const DataError& error) {
      REQUIRE_THAT(error.what(), Contains("t." + kind));
      ++refused;
    }
  }
  CHECK(refused > 0);
  CHECK((opened > 0 || kind == "tsv"));  // the text has no tabs
}

TEST_CASE("tables: records of no sane size are refused before memory is spent", "[data][table]") {
  const test::TableFolder folder;
  const std::string long_cell((16U << 20) + 10, 'a');
  const auto said = [&](const std::string& kind, const std::string& bytes,
                        const std::string& more = "") {
    return refusal(yaml(kind, folder.write("t." + kind, bytes), folder, more));
  };
  CHECK_THAT(said("csv", "text,label\n" + long_cell + ",y\n"),
             Contains("t.csv:2: longer than 16777216 bytes"));
  CHECK_THAT(said("csv", "text,label\n\"" + long_cell + "\",y\n"),
             Contains("t.csv:2: a quote that is opened here is not closed"));
  CHECK_THAT(said("csv", std::string(70000, ',')), Contains("t.csv:1: more than 65536 columns"));
  CHECK_THAT(said("tsv", std::string(70000, '\t')), Contains("t.tsv:1: more than 65536 columns"));
  std::string elements = "[1";
  for (int i = 0; i < 70000; ++i) elements += ",1";
  CHECK_THAT(said("jsonl", elements + "]"), Contains("t.jsonl:1: more than 65536 elements"));
  std::string members = "{\"text\":\"yes\",\"label\":1";
  for (int i = 0; i < 5000; ++i) members += ",\"" + std::to_string(i) + "\":1";
  CHECK_THAT(said("jsonl", members + "}"), Contains("t.jsonl:1: more than 4096 members"));
  // The record behind one that is too long is read.
  const data::Source source =
      open_data(yaml("csv", folder.write("t.csv", "text,label\n" + long_cell + ",y\nno,n\n"),
                     folder, "on_error: skip"));
  CHECK(source.train->size() == 1);
  CHECK(source.train->info().classes == std::vector<std::string>{"n"});
}
