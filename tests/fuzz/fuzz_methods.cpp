// A client that says anything, to the server of any method: its answers are refused or used, and
// the run goes on; what is committed is finite and can be read back. Input: fuzz/town.hpp.
#include "fuzz/town.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fedctl;
  test::play_town(std::as_bytes(std::span(data, size)), test::Hostile::client);
  return 0;
}
