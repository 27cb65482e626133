// The first byte says which file the rest is: only DataError may escape from opening it, and what
// opens encodes any text to tokens that it has.
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"
#include "data/tokenizer.hpp"

using namespace fedctl;
namespace fs = std::filesystem;

namespace {

constexpr std::array kNames = {"tokenizer.json", "vocab.txt", "vocab.json", "merges.txt",
                               "tokenizer.bin"};

// A token for each byte, as GPT-2's vocab.json has it, and two merged ones.
std::string vocabulary() {
  std::string json = "{";
  for (int number = 0; number < 256; ++number) {
    const bool shown = (number > 32 && number < 127) || (number > 160 && number != 173);
    static int hidden = 256;
    const int point = shown ? number : hidden++;
    json += '"';
    if (point == '"' || point == '\\') json += '\\';
    if (point < 0x80) {
      json += static_cast<char>(point);
    } else {
      json += static_cast<char>(0xc0 | (point >> 6));
      json += static_cast<char>(0x80 | (point & 0x3f));
    }
    json += "\":";
    json += std::to_string(number);
    json += ',';
  }
  return json + "\"he\":256,\"hel\":257}";
}

// A folder of this process, gone with it.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("fedctl-fuzz-" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string write(const std::string& name, std::string_view bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return path / name;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  static const std::string json = vocabulary();
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string name = kNames[data[0] % kNames.size()];
  if (name == "vocab.json") folder.write("merges.txt", "h e\n");
  if (name == "merges.txt") folder.write("vocab.json", json);
  std::string path = folder.write(name, bytes);
  if (name == "merges.txt") path = folder.path / "vocab.json";
  try {
    const std::unique_ptr<data::Tokenizer> tokenizer = data::open_tokenizer(path);
    const std::vector<std::int64_t> tokens = tokenizer->encode(bytes);
    for (const std::int64_t token : tokens) {
      if (token < 0 || token >= tokenizer->vocabulary()) std::abort();
    }
    (void)tokenizer->decode(tokens);
    if (tokenizer->frame(bytes, bytes, 16).tokens.size() > 16) std::abort();
  } catch (const DataError&) {
  }
  return 0;
}
