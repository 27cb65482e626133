// What the tests of tokenizers share: files made here, the data where it is, and the goldens that
// scripts/golden/tokenizer_golden.py writes.
#pragma once

#include <zlib.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace fedctl::test {

struct TokenizerFolder {
  std::string path = (std::filesystem::temp_directory_path() /
                      ("fedctl-tokenizer-" + std::to_string(::getpid())))
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

}  // namespace fedctl::test
