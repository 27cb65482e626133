// Points in time as protocols see them. In a simulation they are virtual and start at zero; over
// TCP they are the steady clock's. Wall time stands only in journal keys that end in `_ms`.
#pragma once

#include <chrono>
#include <cstdint>

namespace fedctl {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
inline constexpr TimePoint kForever = TimePoint::max();

inline Duration seconds(double count) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(count));
}
inline double to_ms(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}
// Milliseconds since 1970, for the journal.
inline std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace fedctl
