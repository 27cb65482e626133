#include "base/layout.hpp"

#include "base/digest.hpp"

namespace fedctl {

void Layout::add(std::string name, std::string group, Shape shape) {
  for (const Block& block : blocks_) {
    if (block.name == name) throw DataError("parameter \"" + name + "\" appears twice");
  }
  const std::size_t count = element_count(shape);
  blocks_.push_back({std::move(name), std::move(group), std::move(shape), size_, count});
  size_ += count;
}

const Block& Layout::block(std::string_view name) const {
  for (const Block& block : blocks_) {
    if (block.name == name) return block;
  }
  throw DataError("no parameter named \"" + std::string(name) + "\"");
}

std::string Layout::digest() const {
  Digest digest;
  for (const Block& block : blocks_) {
    digest.add(block.name).add(block.group).add(to_string(block.shape));
  }
  return digest.hex();
}

}  // namespace fedctl
