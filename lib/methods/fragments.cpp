#include "methods/detail/fragments.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace fedctl::methods {
namespace {

// The first number that stands between dots.
std::optional<std::size_t> layer_of(const std::string& name) {
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    std::size_t number = 0;
    const auto [stop, error] = std::from_chars(name.data() + at, name.data() + end, number);
    if (error == std::errc() && stop == name.data() + end && end > at) return number;
    at = end + 1;
  }
  return std::nullopt;
}

}  // namespace

void Fragment::add(std::size_t first, std::size_t count) {
  if (count == 0) return;
  if (!runs_.empty() && runs_.back().first + runs_.back().second == first) {
    runs_.back().second += count;
  } else {
    runs_.emplace_back(first, count);
  }
  size_ += count;
}

std::vector<float> Fragment::of(std::span<const float> vector) const {
  std::vector<float> values(size_);
  each([&](std::size_t i, std::size_t n) { values[n] = vector[i]; });
  return values;
}

void Fragment::put(std::span<const float> values, std::span<float> vector) const {
  each([&](std::size_t i, std::size_t n) { vector[i] = values[n]; });
}

std::vector<std::size_t> Fragment::bounds(const Layout& layout) const {
  std::vector<std::size_t> bounds;
  std::size_t end = 0;  // of the parameter
  auto block = layout.blocks().begin();
  each([&](std::size_t i, std::size_t n) {
    if (i < end) return;
    while (i >= block->offset + block->count) ++block;
    end = block->offset + block->count;
    bounds.push_back(n);
  });
  bounds.push_back(size_);
  return bounds;
}

std::vector<Fragment> fragments_of(const Layout& layout, std::size_t count, bool strided) {
  std::size_t layers = 0;
  for (const Block& block : layout.blocks()) {
    if (const auto layer = layer_of(block.name)) layers = std::max(layers, *layer + 1);
  }
  if (layers == 0) {
    count = std::min(count, layout.size());
    std::vector<Fragment> fragments(count);
    for (std::size_t p = 0; p < count; ++p) {
      const std::size_t first = layout.size() * p / count;
      fragments[p].add(first, layout.size() * (p + 1) / count - first);
    }
    return fragments;
  }
  count = std::min(count, layers);
  std::vector<Fragment> fragments(count);
  bool behind = false;  // the last layer
  for (const Block& block : layout.blocks()) {
    const auto layer = layer_of(block.name);
    std::size_t p = behind ? count - 1 : 0;
    if (layer) p = strided ? *layer % count : *layer * count / layers;
    if (layer == layers - 1) behind = true;
    fragments[p].add(block.offset, block.count);
  }
  std::erase_if(fragments, [](const Fragment& fragment) { return fragment.size() == 0; });
  return fragments;
}

}  // namespace fedctl::methods
