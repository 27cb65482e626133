// Data sets read from files, and the tokenizer: small files made here, the real ones where they
// are.
#include <zlib.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "data/plugins.hpp"
#include "data/registry.hpp"
#include "data/tokenizer.hpp"

using namespace fedctl;
namespace fs = std::filesystem;

namespace {

struct Folder {
  std::string path =
      (fs::temp_directory_path() / ("fedctl-data-" + std::to_string(::getpid()))).string();
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path + '/' + name, std::ios::binary | std::ios::trunc) << bytes;
    return path + '/' + name;
  }
};

std::string word(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}
std::string images(std::uint32_t count) {
  std::string bytes = word(0x803) + word(count) + word(2) + word(3);
  for (std::uint32_t i = 0; i < count * 6; ++i) bytes += static_cast<char>(i);
  return bytes;
}
std::string labels(const std::string& values) {
  return word(0x801) + word(static_cast<std::uint32_t>(values.size())) + values;
}

std::string shared_data() {
  const char* given = std::getenv("FEDCTL_DATA");
  return given != nullptr ? given : FEDCTL_SOURCE_DIR "/../shared/data";
}

// A tokenizer file of the bytes and a few merges.
std::string tokenizer_file() {
  std::string out;
  const auto put = [&](float score, const std::string& piece) {
    const auto length = static_cast<std::int32_t>(piece.size());
    out.append(reinterpret_cast<const char*>(&score), 4);
    out.append(reinterpret_cast<const char*>(&length), 4);
    out += piece;
  };
  const std::int32_t longest = 8;
  out.append(reinterpret_cast<const char*>(&longest), 4);
  for (const char* piece : {"<unk>", "<s>", "</s>"}) put(0, piece);
  for (int byte = 0; byte < 256; ++byte) put(0, "<0x" + std::to_string(byte) + ">");
  for (const char* piece : {" ", "a", "b", "c"}) put(-1, piece);
  put(-2, "ab");   // 263
  put(-3, "bc");   // 264
  put(-4, "abc");  // 265
  return out;
}

}  // namespace

TEST_CASE("idx: images and labels, packed or not", "[data][idx]") {
  const Folder folder;
  folder.write("train-images-idx3-ubyte", images(4));
  gzFile packed = gzopen((folder.path + "/train-labels-idx1-ubyte.gz").c_str(), "wb");
  const std::string bytes = labels(std::string("\0\2\1\2", 4));
  gzwrite(packed, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(packed);
  const data::Source source = test::open_data("{kind: idx, path: " + folder.path + "}");
  CHECK(source.train->size() == 4);
  CHECK(source.test->size() == 0);
  CHECK(source.train->info().classes == std::vector<std::string>{"0", "1", "2"});
  CHECK(source.train->info().input_shape == Shape{1, 2, 3});
  const std::vector<std::size_t> picked{3, 0};
  const data::Batch batch = source.train->gather(picked);
  CHECK(batch.at("pixels").shape == Shape{2, 1, 2, 3});
  CHECK(batch.at("pixels").f32()[0] == Approx(18 / 255.0));
  CHECK(batch.at("labels").i64()[0] == 2);
}

TEST_CASE("idx: damaged files are refused with file and place", "[data][idx]") {
  const Folder folder;
  const auto refused = [&](const std::string& image_bytes, const std::string& label_bytes,
                           const char* why) {
    INFO(why);
    folder.write("train-images-idx3-ubyte", image_bytes);
    folder.write("train-labels-idx1-ubyte", label_bytes);
    CHECK_THROWS_WITH(test::open_data("{kind: idx, path: " + folder.path + "}"),
                      Catch::Contains(why));
  };
  const std::string three("\0\1\2", 3);
  refused("xx", labels(three), "ends in its header");
  refused(word(0x903) + images(3).substr(4), labels(three), "magic is 2307");
  refused(images(3) + "x", labels(three), "need 18 bytes, the file has more");
  refused(images(3).substr(0, 20), labels(three), "need 18 bytes, the file has 4");
  refused(word(0x803) + word(0xffffffff) + word(0xffffffff) + word(0xffffffff), labels(three),
          "need");
  refused(images(3), labels("\1"), "1 labels for 3 images");
  refused(images(0), labels(""), "no pixels");
  fs::remove(folder.path + "/train-labels-idx1-ubyte");
  CHECK_THROWS_WITH(test::open_data("{kind: idx, path: " + folder.path + "}"),
                    Catch::Contains("labels"));
  CHECK_THROWS_WITH(test::open_data("{kind: idx, path: /nowhere}"),
                    Catch::Contains("no such folder"));
}

TEST_CASE("a tokenizer merges the best pair first and falls back to bytes", "[data][tokenizer]") {
  const Folder folder;
  const std::string path = folder.write("tok.bin", tokenizer_file());
  const auto tokenizer = data::open_llama2c_tokenizer(path, 266);
  CHECK(tokenizer->encode("abc") == std::vector<std::int64_t>{259, 265});  // ab, then abc
  CHECK(tokenizer->encode("bc") == std::vector<std::int64_t>{259, 264});
  CHECK(tokenizer->encode("\xc3\xa9") == std::vector<std::int64_t>{259, 3 + 0xc3, 3 + 0xa9});
  CHECK(tokenizer->encode("").empty());
  for (const char* text : {"abc cab", "z\n\t\x01", "\xf0\x9f\x99\x82 \xff broken"}) {
    CHECK(tokenizer->decode(tokenizer->encode(text)) == ' ' + std::string(text));
  }
  CHECK_THROWS_WITH(data::open_llama2c_tokenizer(path, 300), Catch::Contains("ends early"));
  std::string damaged = tokenizer_file();
  damaged[8] = damaged[9] = 0x7f;
  CHECK_THROWS_AS(data::open_llama2c_tokenizer(folder.write("bad.bin", damaged), 266), DataError);
}

TEST_CASE("the published tokenizer spells as its model was trained", "[data][tokenizer]") {
  const std::string path = shared_data() + "/models/stories260K/tok512.bin";
  if (!fs::exists(path)) {
    WARN("skipped: " << path << " is absent");
    return;
  }
  const auto tokenizer = data::open_llama2c_tokenizer(path, 512);
  const auto tokens = tokenizer->encode("Once upon a time, there was a little girl");
  CHECK(tokenizer->decode(tokens) == " Once upon a time, there was a little girl");
  CHECK(tokens.size() < 20);
}

TEST_CASE("shakespeare: windows of a role's text, labels one token on", "[data][shakespeare]") {
  const Folder folder;
  const std::string tokenizer = folder.write("tok.bin", tokenizer_file());
  const std::string text = "abcabcabcabc";
  const std::string roles = folder.write("roles.jsonl", R"({"role":"A","text":")" + text + "\"}\n" +
                                                            R"({"role":"B","text":"ab"})" + "\n");
  const std::string options = "{kind: shakespeare, path: " + roles + ", tokenizer: " + tokenizer +
                              ", vocabulary: 266, window: 2, min_chars: 5}";
  const data::Source source = test::open_data(options);
  // " abc abc abc abc" is five tokens: two windows of two, each with the token after it.
  CHECK(source.train->size() == 2);
  CHECK(source.train->field(0) == "A");
  const std::vector<std::size_t> both{0, 1};
  const data::Batch batch = source.train->gather(both);
  CHECK(batch.at("tokens").i64()[0] == 259);
  CHECK(batch.at("tokens").i64()[1] == 265);
  CHECK(batch.at("labels").i64()[0] == 265);
  CHECK(source.train->info().vocabulary_digest.size() == 64);
  for (const auto& [line, why] : std::vector<std::pair<std::string, const char*>>{
           {"{\"role\":\"A\"}", "no text under \"text\""},
           {"[1]", "not a JSON object"},
           {"{\"role\":", ":1: "}}) {
    folder.write("roles.jsonl", line + "\n");
    CHECK_THROWS_WITH(test::open_data(options), Catch::Contains(why));
  }
}
