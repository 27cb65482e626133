// What is asked of every vector that comes from outside.
#pragma once

#include <optional>
#include <span>

namespace fedctl {

// The index of the first value that is no number or infinite; nullopt if there is none.
std::optional<std::size_t> first_not_finite(std::span<const float> values);
// The same of the first whose magnitude is above `most`, or that is no number.
std::optional<std::size_t> first_beyond(float most, std::span<const float> values);

}  // namespace fedctl
