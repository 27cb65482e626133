// What a server needs of a model that it neither trains nor evaluates, in one file: written by a
// process that has opened the model, read by one that never does (lib/run/describe.hpp).
#pragma once

#include <string>
#include <vector>

#include "learn/learner.hpp"

namespace fedctl::learn {

// Of a learner that was just made. Throws DataError if the file cannot be written.
void write_description(Learner& learner, const std::string& path);

class Description {
 public:
  // Throws DataError naming the file if it is none of the above's.
  explicit Description(const std::string& path);

  const Layout& layout() const { return layout_; }
  // The weights of a learner that was just made, [layout().size()].
  std::vector<float> weights() const;
  const std::string& base_digest() const { return file_.metadata().at("base"); }
  // Read anew at each call: it may be as large as the model.
  AdapterFiles adapter_files() const;

 private:
  data::Safetensors file_;
  Layout layout_;
  AdapterFiles files_;  // without what is frozen
};

}  // namespace fedctl::learn
