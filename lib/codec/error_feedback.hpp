// Error feedback: a Codec around a Codec that remembers what the inner one lost and sends it later.
// The registry is error_feedbacks.def.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "codec/codec.hpp"

namespace fedctl::codec {

struct ErrorFeedbackEntry {
  std::string name;  // the value of codec.error_feedback
  std::string summary;
  std::string paper;
  bool both_sides = false;  // the receiver's codec is wrapped, too, one for every sender
  // Wraps a codec of `count` values; the memory starts at zero.
  std::function<std::unique_ptr<Codec>(std::unique_ptr<Codec> inner, std::size_t count)> wrap;
};
const std::vector<ErrorFeedbackEntry>& error_feedbacks();

// "none": nullptr. Throws ConfigError on an unknown name.
const ErrorFeedbackEntry* error_feedback(const std::string& name);

// "none" and the names of error_feedbacks(): what codec.error_feedback may be.
std::vector<std::string> error_feedback_names();

}  // namespace fedctl::codec
