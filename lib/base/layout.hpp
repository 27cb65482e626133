// Layout: which named parameters stand where in one flat float vector. The vector is at once the
// trained parameters, their gradient, the optimiser's state and the payload on the wire.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.hpp"

namespace fedctl {

// One named parameter: values[offset, offset + count), row-major of `shape`.
struct Block {
  std::string name;   // as the PEFT or HF file names it, e.g. "layers.0.attention.wq.lora_A"
  std::string group;  // "adapter", "head", "prompt" or "base"
  Shape shape;
  std::size_t offset = 0;
  std::size_t count = 0;

  bool operator==(const Block&) const = default;
};

class Layout {
 public:
  // Appends a parameter behind the last one. Throws DataError on a repeated name.
  void add(std::string name, std::string group, Shape shape);

  std::size_t size() const { return size_; }  // floats in all
  const std::vector<Block>& blocks() const { return blocks_; }
  const Block& block(std::string_view name) const;  // throws DataError if there is none
  // Names, groups and shapes, hashed: two parties with one digest agree on every float's meaning.
  std::string digest() const;

  bool operator==(const Layout&) const = default;

 private:
  std::vector<Block> blocks_;
  std::size_t size_ = 0;
};

}  // namespace fedctl
