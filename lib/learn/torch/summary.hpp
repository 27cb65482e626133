// What two parties compare of a base that neither sends.
#pragma once

#include <set>
#include <string>

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

// Names of the base's parameters that are trained here, and so are not part of the base.
std::set<std::string> trained_names(const Layout& layout);

struct BaseSummary {
  std::string digest;
  std::size_t parameters = 0;
};

// Of the frozen parameters. With nothing frozen the digest is that of the values training starts
// from, so that two parties with different files differ.
BaseSummary summarize(const Base& base, const Layout& layout, const std::string& settings);

}  // namespace fedctl::learn
