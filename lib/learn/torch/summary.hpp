// What two parties compare of a base that neither sends.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

struct BaseSummary {
  std::string digest;
  std::size_t parameters = 0;
};

// Of the frozen parameters. With nothing frozen the digest is that of the values training starts
// from, so that two parties with different files differ.
BaseSummary summarize(const Base& base, const Layout& layout, const std::string& settings);

}  // namespace fedctl::learn
