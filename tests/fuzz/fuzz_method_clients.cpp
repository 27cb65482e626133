// A server, and neighbours, that say anything, to a client of any method: it works on it or refuses
// it with an Error, and what it keeps can be read back. Input: fuzz/town.hpp.
#include "fuzz/town.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fedctl;
  test::play_town(std::as_bytes(std::span(data, size)), test::Hostile::server);
  return 0;
}
