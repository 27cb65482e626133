// Small tables and tokenizers, written where a test can open them.
#pragma once

#include <unistd.h>
#include <zlib.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "data/plugins.hpp"

namespace fedctl::test {

struct TableFolder {
  std::string path =
      (std::filesystem::temp_directory_path() / ("fedctl-table-" + std::to_string(::getpid())))
          .string();
  TableFolder() { std::filesystem::create_directories(path); }
  ~TableFolder() { std::filesystem::remove_all(path); }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path + '/' + name, std::ios::binary | std::ios::trunc) << bytes;
    return path + '/' + name;
  }
  std::string pack(const std::string& name, const std::string& bytes) const {
    gzFile packed = gzopen((path + '/' + name).c_str(), "wb");
    gzwrite(packed, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(packed);
    return path + '/' + name;
  }
  // [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, yes 4, no 5, maybe 6, a 7, b 8, c 9.
  std::string words() const {
    return write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nyes\nno\nmaybe\na\nb\nc\n");
  }
  // <s> 1, </s> 2, bytes 3 to 258, " " 259, a 260, b 261, c 262; a text begins with " ".
  std::string letters() const {
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
    return write("letters.bin", out);
  }
};

inline std::vector<std::int64_t> values(const data::Batch& batch, const std::string& name) {
  const auto span = batch.at(name).i64();
  return {span.begin(), span.end()};
}

// What opening it says, with the hint: "path:3: ... | hint".
template <typename Error = DataError>
std::string refusal(const std::string& yaml) {
  try {
    open_data(yaml);
  } catch (const Error& error) {
    return std::string(error.what()) + " | " + error.hint();
  }
  return "";
}

inline std::string shared_data() {
  const char* given = std::getenv("FEDCTL_DATA");
  return given != nullptr ? given : FEDCTL_SOURCE_DIR "/../shared/data";
}
inline bool has_shared(const std::string& name) {
  if (std::filesystem::exists(shared_data() + '/' + name)) return true;
  WARN("no " << shared_data() << '/' << name << "; skipped");
  return false;
}

}  // namespace fedctl::test
