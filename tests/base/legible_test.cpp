#include "base/legible.hpp"

#include <catch2/catch.hpp>

using namespace fedctl;

TEST_CASE("what a terminal would obey is not in a legible text", "[base][hostile]") {
  CHECK(legible("plain, \"quoted\" \xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x98\x80") ==
        "plain, \"quoted\" \xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x98\x80");
  CHECK(legible("\x1b]0;owned\x07\x1b[2J") == "?]0;owned??[2J");
  CHECK(legible(std::string("a\0b\x7f", 4)) == "a?b?");
  CHECK(legible("two\nlines\tand\r") == "two lines and ");
  CHECK(legible("\xc2\x9b[2J") == "?[2J");                        // CSI as one character
  CHECK(legible("\xe2\x80\xaexyz\xe2\x81\xa6") == "?xyz?");       // turned around
  CHECK(legible("\xff\xc3x\xed\xa0\x80\xc0\xaf") == "??x?????");  // no UTF-8
}

TEST_CASE("a legible text is cut between characters", "[base]") {
  CHECK(legible(std::string(512, 'x')) == std::string(512, 'x'));
  CHECK(legible(std::string(1 << 20, 'x')) == std::string(512, 'x') + "...");
  CHECK(legible("\xc3\xa9\xc3\xa9", 3) == "\xc3\xa9...");
  CHECK(legible("") == "");
}

TEST_CASE("what goes to a terminal keeps its lines, whatever their length", "[base][hostile]") {
  CHECK(printable("one\n\xc2\x9b" "2J\ttwo\n") == "one\n?2J two\n");
  CHECK(printable(std::string(1 << 12, 'x')) == std::string(1 << 12, 'x'));
  CHECK(printable("").empty());
}
