// Plain text in windows.
#include "data/table_folder.hpp"
#include "data/tokenizer.hpp"

using namespace fedctl;
using Catch::Contains;
using test::open_data;
using test::refusal;
using test::values;
using Numbers = std::vector<std::int64_t>;

TEST_CASE("text: windows one behind the other, each predicts the next token", "[data][text]") {
  const test::TableFolder folder;
  folder.write("train.txt", "ab\ncab\nb");  // with the space in front, 9 tokens
  folder.pack("valid.txt.gz", "abc");
  const data::Source source = open_data("{kind: text, path: " + folder.path +
                                        ", window: 4, tokenizer: " + folder.letters() + "}");
  REQUIRE(source.train->size() == 2);
  CHECK(source.test->size() == 1);
  CHECK(source.train->info().task == data::Task::language);
  CHECK(source.train->length(1) == 4);
  CHECK(source.train->field(1).empty());
  CHECK(source.train->tokenizer()->vocabulary() == 263);
  const data::Batch batch = source.train->gather(std::vector<std::size_t>{1, 0});
  CHECK(values(batch, "tokens") == Numbers{262, 260, 261, 13, 259, 260, 261, 13});
  CHECK(values(batch, "labels") == Numbers{260, 261, 13, 261, 260, 261, 13, 262});
  CHECK(values(batch, "lengths") == Numbers{4, 4});
  // Nothing follows the last token of a text.
  CHECK(values(source.test->gather(std::vector<std::size_t>{0}), "labels") ==
        Numbers{260, 261, 262, data::kIgnore});
}

TEST_CASE("text: pieces of whole lines lose nothing", "[data][text]") {
  const test::TableFolder folder;
  std::string text;
  for (int line = 0; line < 20000; ++line) text += line % 3 == 0 ? "ab\n" : "c\n";
  const data::Source source = open_data("{kind: text, path: " + folder.write("t.txt", text) +
                                        ", window: 2, tokenizer: " + folder.letters() + "}");
  std::string back;
  const data::Batch batch = source.train->gather(test::all_of(*source.train));
  for (const std::int64_t token : values(batch, "tokens")) {
    if (token != 259) back += token == 13 ? '\n' : static_cast<char>('a' + token - 260);
  }
  CHECK(back.size() + 1 >= text.size());
  CHECK(text.starts_with(back));
}

TEST_CASE("text: what is wrong is said with its line", "[data][text]") {
  const test::TableFolder folder;
  const auto said = [&](const std::string& bytes) {
    return refusal("{kind: text, window: 4, path: " + folder.write("t.txt", bytes) +
                   ", tokenizer: " + folder.letters() + "}");
  };
  CHECK_THAT(said("abc\n\xc3(\n"), Contains("t.txt:2: not UTF-8, at byte 0 of it"));
  CHECK_THAT(said(std::string("abc\na\0b\n", 8)), Contains("t.txt:2: a NUL byte, at byte 1 of it"));
  CHECK_THAT(said("a"), Contains("t.txt: 2 tokens, a window has 4"));
  CHECK_THAT(said(""), Contains("t.txt: empty"));
  CHECK_THAT(
      refusal("{kind: text, path: " + folder.path + ", tokenizer: " + folder.letters() + "}"),
      Contains("no train.txt in it"));
}

TEST_CASE("text: wikitext-2 in windows", "[data][text][shared]") {
  if (!test::has_shared("wikitext-2")) return;
  const std::string folder = test::shared_data() + "/wikitext-2/";
  const data::Source source =
      open_data("{kind: text, path: " + folder + "valid.txt, test: " + folder +
                "test.txt, tokenizer: " + test::shared_data() + "/tokenizers/gpt2}");
  CHECK(source.train->size() > 217646 / 128);
  CHECK(source.test->size() > 245569 / 128);
}
