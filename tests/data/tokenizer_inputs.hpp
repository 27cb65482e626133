// What the tests of tokenizers share: files made here, the data where it is, and the goldens that
// scripts/golden/tokenizer_golden.py writes.
#pragma once

#include <zlib.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::test {

struct TokenizerFolder {
  std::string path =
      (std::filesystem::temp_directory_path() / ("fedctl-tokenizer-" + std::to_string(::getpid())))
          .string();
  TokenizerFolder() { std::filesystem::create_directories(path); }
  ~TokenizerFolder() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path + '/' + name, std::ios::binary | std::ios::trunc) << bytes;
    return path + '/' + name;
  }
};

inline std::string shared_data(const std::string& file) {
  const char* given = std::getenv("FEDCTL_DATA");
  return (given != nullptr ? given : FEDCTL_SOURCE_DIR "/../shared/data") + ('/' + file);
}

inline std::string golden(const std::string& file) {
  return FEDCTL_SOURCE_DIR "/tests/golden/tokenizers/" + file;
}

inline std::vector<std::string> golden_lines(const std::string& file) {
  std::string all(std::size_t{1} << 24, '\0');
  gzFile packed = gzopen(golden(file).c_str(), "rb");
  REQUIRE(packed != nullptr);
  const int got = gzread(packed, all.data(), static_cast<unsigned>(all.size()));
  gzclose(packed);
  REQUIRE(got > 0);
  all.resize(static_cast<std::size_t>(got));
  std::vector<std::string> lines;
  std::istringstream in(all);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline std::vector<std::string> golden_texts() {
  std::vector<std::string> texts;
  for (const std::string& line : golden_lines("texts.gz"))
    texts.push_back(nlohmann::json::parse(line).get<std::string>());
  return texts;
}

inline nlohmann::json golden_json(const std::string& file) {
  std::ifstream in(golden(file));
  return nlohmann::json::parse(in);
}

// A vocab.txt of 13 tokens.
inline const std::string kVocab = "[UNK]\n[CLS]\n[SEP]\na\nb\n##b\n,\nA\n[\n]\nsep\n\xc3\xa9\ne\n";

// A llama2.c tokenizer of the bytes and one merge: 263 tokens.
inline std::string llama2c_file() {
  std::string out("\x08\0\0\0", 4);
  const auto put = [&](float score, const std::string& piece) {
    const auto length = static_cast<std::int32_t>(piece.size());
    out.append(reinterpret_cast<const char*>(&score), 4);
    out.append(reinterpret_cast<const char*>(&length), 4);
    out.append(piece);
  };
  for (const char* piece : {"<unk>", "<s>", "</s>"}) put(0, piece);
  for (int byte = 0; byte < 256; ++byte) put(0, std::to_string(byte));
  for (const char* piece : {" ", "a", "b", "ab"}) put(-1, piece);
  return out;
}

// Opening it gives a DataError with the file, the reason and a hint.
inline void tokenizer_refused(const std::string& path, const std::string& why) {
  INFO(path << " must be refused: " << why);
  try {
    data::open_tokenizer(path);
    FAIL_CHECK("opened");
  } catch (const DataError& error) {
    CHECK_THAT(error.what(), Catch::Contains(why));
    CHECK_THAT(error.what(), Catch::Contains(path));
    CHECK(!error.hint().empty());
  }
}

}  // namespace fedctl::test
