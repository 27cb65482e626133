// Which file opens as which tokenizer, and how texts are framed.
#include "data/tokenizer.hpp"
#include "data/tokenizer_inputs.hpp"

using namespace fedctl;
using Ids = std::vector<std::int64_t>;
using nlohmann::json;

TEST_CASE("WordPiece has capitals if tokenizer_config.json says so", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  folder.write("vocab.txt", test::kVocab);
  const auto uncased = data::open_tokenizer(folder.path);
  CHECK(uncased->vocabulary() == 13);
  CHECK(uncased->encode("Abb, \xc3\x89z") == Ids{3, 5, 5, 6, 0});
  CHECK(uncased->encode("\xc3\x89") == Ids{12});
  folder.write("tokenizer_config.json", R"({"do_lower_case": false, "model_max_length": 512})");
  const auto cased = data::open_tokenizer(folder.path + "/vocab.txt");
  CHECK(cased->encode("Abb \xc3\xa9") == Ids{7, 5, 5, 11});
  CHECK(cased->digest() != uncased->digest());
  folder.write("tokenizer_config.json", R"({"do_lower_case": "no"})");
  CHECK_THROWS_WITH(data::open_tokenizer(folder.path),
                    Catch::Contains("do_lower_case is of type string, expected boolean"));
}

TEST_CASE("WordPiece frames one text or two", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  const auto tokenizer = data::open_tokenizer(folder.write("vocab.txt", test::kVocab));
  data::Encoded one = tokenizer->frame("a b", std::nullopt, 8);
  CHECK(one.tokens == Ids{1, 3, 4, 2});
  CHECK(one.segments == Ids{0, 0, 0, 0});
  data::Encoded two = tokenizer->frame("a b", "b a a a", 8);
  CHECK(two.tokens == Ids{1, 3, 4, 2, 4, 3, 3, 2});
  CHECK(two.segments == Ids{0, 0, 0, 0, 1, 1, 1, 1});
  CHECK(tokenizer->frame("a a a a", std::nullopt, 3).tokens == Ids{1, 3, 2});
  CHECK(tokenizer->begin() == -1);
  CHECK(tokenizer->decode(two.tokens) == "a b b a a");
  CHECK(tokenizer->decode(Ids{3, 5, -7, 4, 1'000'000}) == "ab b");
}

TEST_CASE("no text becomes a special token", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  const auto pieces = data::open_tokenizer(folder.write("vocab.txt", test::kVocab));
  CHECK(pieces->encode("[SEP]") == Ids{8, 10, 9});
  for (const char* name : {"byte_bpe.json", "fallback_bpe.json"}) {
    const auto tokenizer = data::open_tokenizer(test::golden(name));
    for (const std::string text : {"<|endoftext|>", "<s>", "</s>", "a<unk>b"}) {
      for (const std::int64_t token : tokenizer->encode(text)) {
        CHECK(token != tokenizer->begin());
        CHECK(token != tokenizer->end());
      }
      CHECK_THAT(tokenizer->decode(tokenizer->encode(text)), Catch::EndsWith(text));
    }
  }
}

TEST_CASE("tokenizer.json names the tokens that begin and end a text", "[data][tokenizer]") {
  const auto bytes = data::open_tokenizer(test::golden("byte_bpe.json"));
  CHECK(bytes->begin() == -1);
  CHECK(bytes->end() == 0);
  const auto fallback = data::open_tokenizer(test::golden("fallback_bpe.json"));
  CHECK(fallback->begin() == 1);
  CHECK(fallback->end() == 2);
  CHECK(fallback->frame("", std::nullopt, 4).tokens == Ids{1});
  const auto pieces = data::open_tokenizer(test::golden("wordpiece.json"));
  CHECK(pieces->frame("", "", 4).tokens == Ids{2, 3, 3});
}

TEST_CASE("two files of the same tokenizer have the same digest", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  json tree = test::golden_json("byte_bpe.json");
  tree["pre_tokenizer"]["add_prefix_space"] = false;
  std::string merges = "#version: 0.2\n";
  for (const json& pair : tree["model"]["merges"])
    merges += pair[0].get<std::string>() + ' ' + pair[1].get<std::string>() + '\n';
  folder.write("merges.txt", merges);
  folder.write("vocab.json", tree["model"]["vocab"].dump());
  const auto pair = data::open_tokenizer(folder.path);
  tree["truncation"] = {{"max_length", 128}};
  const auto whole = data::open_tokenizer(folder.write("tokenizer.json", tree.dump(2)));
  CHECK(pair->digest() == whole->digest());
  CHECK(pair->encode("it's  good") == whole->encode("it's  good"));
  CHECK(data::open_tokenizer(folder.path)->digest() == whole->digest());
  CHECK(data::open_tokenizer(test::golden("byte_bpe.json"))->digest() != whole->digest());
}

TEST_CASE("a llama2.c tokenizer is as long as its file", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  const std::string path = folder.write("tokenizer.bin", test::llama2c_file());
  const auto tokenizer = data::open_tokenizer(folder.path);
  CHECK(tokenizer->vocabulary() == 263);
  CHECK(tokenizer->begin() == 1);
  CHECK(tokenizer->end() == 2);
  CHECK(tokenizer->encode("ab") == Ids{259, 262});
  CHECK(tokenizer->frame("ab", "b", 4).tokens == Ids{1, 259, 262, 259});
  CHECK(tokenizer->digest() == data::open_llama2c_tokenizer(path, 263)->digest());
  CHECK_THROWS_WITH(data::open_llama2c_tokenizer(path, 262), Catch::Contains("bytes follow"));
  test::tokenizer_refused(folder.write("cut.bin", test::llama2c_file().substr(0, 1000)),
                          "ends early at byte");
  test::tokenizer_refused(folder.write("tail.bin", test::llama2c_file() + "xyz"),
                          "ends early at byte");
}
