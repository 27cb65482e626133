#include "data/tokenizer.hpp"

#include "base/assert.hpp"

namespace fedctl::data {

Encoded Tokenizer::frame(std::string_view first, std::optional<std::string_view> second,
                         std::size_t longest) const {
  const std::size_t special = begin() >= 0 ? 1 : 0;
  FEDCTL_ASSERT(longest > special);
  std::vector<std::int64_t> a = encode(first);
  std::vector<std::int64_t> b = second ? encode(*second) : std::vector<std::int64_t>();
  cut_longer(a, b, longest - special);
  Encoded framed;
  if (special > 0) framed.tokens.push_back(begin());
  framed.tokens.insert(framed.tokens.end(), a.begin(), a.end());
  framed.segments.assign(framed.tokens.size(), 0);
  framed.tokens.insert(framed.tokens.end(), b.begin(), b.end());
  framed.segments.resize(framed.tokens.size(), 1);
  return framed;
}

void cut_longer(std::vector<std::int64_t>& first, std::vector<std::int64_t>& second,
                std::size_t longest) {
  while (first.size() + second.size() > longest) {
    // One token at a time from whichever is longer leaves them as alike as can be.
    if (first.size() > second.size()) {
      first.pop_back();
    } else {
      second.pop_back();
    }
  }
}

}  // namespace fedctl::data
