// Damaged tokenizer files are refused with file and place; damaged texts are texts.
#include "base/errors.hpp"
#include "base/rng.hpp"
#include "data/tokenizer.hpp"
#include "data/tokenizer_inputs.hpp"

using namespace fedctl;
using Ids = std::vector<std::int64_t>;
using nlohmann::json;

TEST_CASE("damaged vocab.txt, vocab.json and merges.txt are refused", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  CHECK_THROWS_WITH(data::open_tokenizer(folder.path), Catch::Contains("no tokenizer in this"));
  test::tokenizer_refused(folder.path + "/absent.txt", "no such file");
  test::tokenizer_refused(folder.write("model.onnx", "x"), "not the name of a tokenizer file");
  test::tokenizer_refused(folder.write("empty.txt", ""), "no tokens");
  test::tokenizer_refused(folder.write("blank.txt", "[UNK]\n\n[CLS]\n"),
                          "blank.txt:2: the token is empty");
  test::tokenizer_refused(folder.write("twice.txt", test::kVocab + "b\n"),
                          "twice.txt:14: token \"b\" is there twice");
  test::tokenizer_refused(folder.write("latin.txt", test::kVocab + "\xe9\n"),
                          "latin.txt:14: the token is not UTF-8");
  test::tokenizer_refused(folder.write("long.txt", test::kVocab + std::string(5000, 'x')),
                          "5000 bytes");
  test::tokenizer_refused(folder.write("without.txt", "[UNK]\n[CLS]\na\n"),
                          "token \"[SEP]\" is missing");

  json vocabulary = test::golden_json("byte_bpe.json")["model"]["vocab"];
  const std::string vocab = folder.write("vocab.json", vocabulary.dump());
  CHECK_THROWS_WITH(data::open_tokenizer(vocab), Catch::Contains("merges.txt: no such file"));
  const auto merges_refused = [&](const std::string& merges, const std::string& why) {
    test::tokenizer_refused(folder.write("merges.txt", merges), why);
  };
  merges_refused("#version: 0.2\nh e\nhe\n", "merges.txt:3: \"he\", expected two tokens");
  merges_refused("h e x\n", "merges.txt:1: \"h e x\", expected two tokens");
  merges_refused("h e\nh e\n", "merges.txt:2: the merge is there twice");
  merges_refused("h e\nq q\n", "merges.txt:2: \"qq\" is no token");
  folder.write("merges.txt", "h e\n");
  const auto vocab_refused = [&](const json& tree, const std::string& why) {
    test::tokenizer_refused(folder.write("vocab.json", tree.dump()), why);
  };
  vocab_refused(json::array({1}), "the file is of type array, expected object");
  vocabulary["h"] = "8";
  vocab_refused(vocabulary, "h is of type string, expected integer");
  vocabulary["h"] = 1.5;
  vocab_refused(vocabulary, "h is of type number, expected integer");
  vocabulary["h"] = -1;
  vocab_refused(vocabulary, "the number of token \"h\" is -1, expected 0 to");
  vocabulary["h"] = 18446744073709551615U;
  vocab_refused(vocabulary, "too large");
  vocabulary["h"] = 1 << 20;
  vocab_refused(vocabulary, "is 1048576, expected 0 to 1048575");
  vocabulary["h"] = vocabulary["e"];
  vocab_refused(vocabulary, "is both");
  vocabulary["h"] = 5000;
  vocab_refused(vocabulary, "no token has number");
  vocabulary.erase("h");
  folder.write("merges.txt", "");
  vocab_refused(vocabulary, "byte 104 (\"h\") has no token");
  test::tokenizer_refused(folder.write("vocab.json", "{\n\"a\": 0,\n\"b\" 1}"),
                          "vocab.json:3: not JSON at byte");
}

TEST_CASE("tokenizer.json: what is not read is refused by its key", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  const auto changed = [&](const char* file, const char* pointer, const json& value,
                           const std::string& why) {
    INFO(pointer << " = " << value.dump());
    json tree = test::golden_json(file);
    tree[json::json_pointer(pointer)] = value;
    test::tokenizer_refused(folder.write("tokenizer.json", tree.dump()), why);
  };
  const char *pieces = "wordpiece.json", *bytes = "byte_bpe.json", *fallback = "fallback_bpe.json";
  changed(pieces, "/model/type", "Unigram", "model.type \"Unigram\" is not supported");
  changed(pieces, "/model/type", 3, "model.type is of type number, expected string");
  changed(pieces, "/model", nullptr, "model is missing");
  changed(pieces, "/model/novel", 1, "model.novel is not supported");
  changed(pieces, "/extra", 1, "extra is not supported");
  changed(pieces, "/normalizer/type", "NFC", "normalizer.type is \"NFC\"");
  changed(pieces, "/normalizer/lowercase", 1, "normalizer.lowercase is of type number");
  changed(pieces, "/pre_tokenizer/type", "Whitespace", "pre_tokenizer.type is \"Whitespace\"");
  changed(pieces, "/model/max_input_chars_per_word", 0, "is 0, expected 1 to 1000");
  changed(pieces, "/model/unk_token", "[NONE]", "token \"[NONE]\" is missing");
  changed(pieces, "/post_processor/single/1/Sequence/id", "B", "post_processor.single");
  changed(pieces, "/post_processor/pair", json::array(), "post_processor.pair");
  changed(pieces, "/post_processor", {{"type", "BertProcessing"}, {"cls", json::array()}},
          "post_processor.cls is not a token");
  changed(pieces, "/added_tokens/0/id", 7, "number 7 is both");
  changed(pieces, "/added_tokens/0/id", 500, "token \"[PAD]\" is there twice, as 0 and 500");
  changed(pieces, "/added_tokens/0/content", "[OTHER]", "added_tokens[0]: number 0 is both");
  changed(pieces, "/added_tokens", {{"id", 1}}, "added_tokens is of type object, expected array");
  changed(bytes, "/normalizer", {{"type", "NFC"}}, "normalizer is not supported");
  changed(bytes, "/pre_tokenizer/use_regex", false, "pre_tokenizer.use_regex is false");
  changed(bytes, "/pre_tokenizer/type", "Sequence", "byte_fallback is false");
  changed(bytes, "/post_processor/type", "RobertaProcessing", "post_processor.type");
  changed(bytes, "/model/dropout", 0.1, "model.dropout is not supported");
  changed(bytes, "/model/ignore_merges", true, "model.ignore_merges is true");
  changed(bytes, "/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix");
  changed(bytes, "/model/merges/3", "abc", "model.merges[3] is \"abc\"");
  changed(bytes, "/model/merges/3", json::array({"a"}), "model.merges[3] has not two tokens");
  changed(bytes, "/added_tokens/0/content", "he", "number 0 is both");
  changed(fallback, "/model/byte_fallback", false, "model.byte_fallback is false");
  changed(fallback, "/normalizer", nullptr, "normalizer does not replace spaces");
  changed(fallback, "/normalizer/normalizers/0/prepend", "_", "prepend is \"_\"");
  changed(fallback, "/normalizer/normalizers/1/type", "NFKC", "\"NFKC\" is not supported");
  changed(fallback, "/pre_tokenizer", {{"type", "Metaspace"}}, "both make marks of spaces");
  changed(fallback, "/post_processor/single", json::array(), "is not of the form A or <s> A");
  changed(fallback, "/added_tokens/1/special", false, "does not call special");
  json tree = test::golden_json(bytes);
  tree["added_tokens"].push_back(
      {{"id", tree["model"]["vocab"]["he"]}, {"content", "he"}, {"special", true}});
  test::tokenizer_refused(folder.write("tokenizer.json", tree.dump()),
                          "makes the special token \"he\"");
}

TEST_CASE("damaged bytes of a tokenizer give a DataError or a tokenizer", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  std::vector<std::pair<std::string, std::string>> files{{"a.bin", test::llama2c_file()},
                                                         {"vocab.txt", test::kVocab}};
  for (const char* name : {"wordpiece.json", "byte_bpe.json", "fallback_bpe.json"})
    files.emplace_back(name, test::golden_json(name).dump());
  Rng rng = Rng(5).stream("damage");
  std::size_t refusals = 0;
  for (const auto& [name, bytes] : files) {
    for (int round = 0; round < 40; ++round) {
      std::string damaged = bytes;
      for (int hit = 0; hit < 1 + round % 3; ++hit)
        damaged[rng.below(damaged.size())] = static_cast<char>(rng.below(256));
      if (round % 7 == 0) damaged.resize(rng.below(damaged.size()));
      try {
        const auto tokenizer = data::open_tokenizer(folder.write(name, damaged));
        for (const std::int64_t token : tokenizer->encode("a text, [SEP] <s>\n"))
          REQUIRE((token >= 0 && token < tokenizer->vocabulary()));
      } catch (const DataError&) {
        ++refusals;
      }
    }
  }
  CHECK(refusals > 50);
  CHECK(refusals < 200);
}

TEST_CASE("random bytes are texts too", "[data][tokenizer]") {
  const test::TokenizerFolder folder;
  Rng rng = Rng(6).stream("texts");
  for (const std::string& path :
       {test::golden("wordpiece.json"), test::golden("byte_bpe.json"),
        test::golden("fallback_bpe.json"), folder.write("a.bin", test::llama2c_file())}) {
    INFO(path);
    const auto tokenizer = data::open_tokenizer(path);
    for (int round = 0; round < 400; ++round) {
      std::string text(rng.below(200), '\0');
      // Half of them mostly ASCII, so that tokens longer than a byte come up.
      for (char& byte : text) {
        byte = static_cast<char>(round % 2 == 0 || rng.below(8) == 0 ? rng.below(256)
                                                                     : 32 + rng.below(96));
      }
      const Ids tokens = tokenizer->encode(text);
      for (const std::int64_t token : tokens)
        REQUIRE((token >= 0 && token < tokenizer->vocabulary()));
      const std::string back = tokenizer->decode(tokens);
      if (path.ends_with(".bin")) {
        REQUIRE(back == (text.empty() ? "" : ' ' + text));
      } else if (!path.ends_with("wordpiece.json")) {
        REQUIRE(tokenizer->encode(back) == tokens);  // damaged bytes are U+FFFD by then
      }
      Ids any;
      for (int i = 0; i < 50; ++i) any.push_back(static_cast<std::int64_t>(rng.next_u64()));
      for (int i = 0; i < 50; ++i) any.push_back(static_cast<std::int64_t>(rng.below(700)));
      REQUIRE(tokenizer->decode(any).size() < 10'000);
    }
  }
}

TEST_CASE("what is not UTF-8 becomes U+FFFD", "[data][tokenizer]") {
  const auto bytes = data::open_tokenizer(test::golden("byte_bpe.json"));
  CHECK(bytes->decode(bytes->encode(" a\xff\xc3z\xf0\x9f\x99")) ==
        " a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd");
}
