// The parameters in groups that are sent one after the other (Streaming DiLoCo, Douillard et al.,
// 2025, arXiv 2501.18512, section 3.1).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/layout.hpp"

namespace fedctl::methods {

// A fragment: runs of the flat vector.
class Fragment {
 public:
  void add(std::size_t first, std::size_t count);
  std::size_t size() const { return size_; }
  // Its values, one run behind the other; and back. Preconditions: lengths fit.
  std::vector<float> of(std::span<const float> vector) const;
  void put(std::span<const float> values, std::span<float> vector) const;
  // Where its values of each parameter of the layout begin, and size() at the end.
  std::vector<std::size_t> bounds(const Layout& layout) const;
  // Calls visit(i, n) for its n-th value, at i of the flat vector.
  template <class Visit>
  void each(const Visit& visit) const {
    std::size_t n = 0;
    for (const auto& [first, count] : runs_) {
      for (std::size_t i = 0; i < count; ++i) visit(first + i, n++);
    }
  }

 private:
  std::vector<std::pair<std::size_t, std::size_t>> runs_;
  std::size_t size_ = 0;
};

// `count` fragments of whole layers: strided (fragment p has layers p, p + count, ...) or
// sequential. A layer is the first number in a parameter's name; parameters without one (embedding,
// head) go to the first fragment and, behind the last layer, to the last. A model without layers is
// cut into runs as long as each other. At most as many fragments as there are layers, or weights.
std::vector<Fragment> fragments_of(const Layout& layout, std::size_t count, bool strided);

}  // namespace fedctl::methods
