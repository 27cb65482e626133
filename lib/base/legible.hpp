// Texts that come from outside, before people, a terminal or a journal get to see them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/limits.hpp"

namespace fedctl {

// Bytes of the UTF-8 sequence that `text` begins with; 0 if it is none (RFC 3629: no surrogates,
// nothing beyond U+10FFFF, no longer spelling than necessary). Precondition: not empty.
std::size_t sequence_bytes(std::string_view text);

// The text in one line of at most `bytes_max` bytes and "...": line ends and tabs are spaces, what
// moves a cursor, turns the direction of writing or is no UTF-8 is '?'.
std::string legible(std::string_view text, std::size_t bytes_max = limits::kWordsBytesMax);

// All lines of the text, in each of which nothing moves the cursor: for a terminal.
std::string printable(std::string_view text);

}  // namespace fedctl
