// What a fuzzer's bytes make of an honest message: changes that leave it one that can arrive.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.hpp"
#include "wire/message.hpp"

namespace fedctl::test {

class Script {
 public:
  explicit Script(ByteView bytes) : bytes_(bytes) {}

  std::uint8_t next() {
    if (bytes_.empty()) return 0;
    const auto byte = std::to_integer<std::uint8_t>(bytes_.front());
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  bool over() const { return bytes_.empty(); }

  // Up to four changes; the first byte says how many.
  void change(wire::Message& message) {
    for (int left = next() % 5; left > 0; --left) change_once(message);
  }

 private:
  template <class T>
  T number() {
    T value{};
    std::array<std::byte, sizeof(T)> raw{};
    for (std::byte& byte : raw) byte = static_cast<std::byte>(next());
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  // The one that a byte names; the map is not empty.
  template <class Map>
  typename Map::iterator pick(Map& map) {
    return std::next(map.begin(), static_cast<std::ptrdiff_t>(next() % map.size()));
  }

  void change_once(wire::Message& message) {
    static constexpr std::array kKinds = {"update", "train", "failed",   "behind", "gossip",
                                          "past",   "rows",  "features", "slopes", "x"};
    const int what = next() % 12;
    if (what == 0) {
      const std::size_t count = std::min<std::size_t>(bytes_.size(), number<std::uint16_t>());
      const ByteView whole = bytes_.first(std::min(count, bytes_.size()));
      bytes_ = bytes_.subspan(whole.size());
      message = wire::decode(whole);
    } else if (what == 1) {
      message.kind = kKinds[next() % kKinds.size()];
    } else if (what < 5 && !message.scalars.empty()) {
      change_scalar(message, what);
    } else if (what >= 5 && !message.tensors.empty()) {
      change_tensor(message, what);
    }
  }

  void change_scalar(wire::Message& message, int what) {
    const auto at = pick(message.scalars);
    if (what == 2) {
      message.scalars.erase(at);
    } else if (what == 3) {
      at->second = number<std::int64_t>();
    } else if (next() % 2 == 0) {
      at->second = static_cast<std::int64_t>(static_cast<std::int8_t>(next()));
    } else {
      at->second = number<double>();
    }
  }

  void change_tensor(wire::Message& message, int what) {
    const auto at = pick(message.tensors);
    Tensor& tensor = at->second;
    const auto value = [&] { return number<std::array<std::byte, 4>>(); };
    if (what == 5) {
      message.tensors.erase(at);
    } else if (what == 6) {
      const auto filling = value();
      for (std::size_t i = 0; i < tensor.bytes.size(); ++i) tensor.bytes[i] = filling[i % 4];
    } else if (what <= 8 && !tensor.bytes.empty()) {
      const std::size_t first = 4 * number<std::uint16_t>() % tensor.bytes.size();
      const auto put = value();
      for (std::size_t i = 0; i < 4 && first + i < tensor.bytes.size(); ++i) {
        tensor.bytes[first + i] = put[i];
      }
    } else if (what == 9) {
      tensor.bytes.resize(tensor.bytes.size() + 256 - next());
      refit(tensor);
    } else if (what == 10) {
      tensor.dtype = static_cast<DType>(next() % 6);
      refit(tensor);
    } else if (what == 11) {
      Tensor moved = std::move(tensor);
      if (next() % 2 == 0) moved.shape.push_back(1);
      static constexpr std::array kNames = {"weights", "delta", "curvature", "mask", "a"};
      message.tensors.insert_or_assign(kNames[next() % kNames.size()], std::move(moved));
      message.tensors.erase(at);
    }
  }

  // As many elements as there are bytes for.
  static void refit(Tensor& tensor) {
    const std::size_t width = tensor.dtype == DType::coded ? 1 : element_bytes(tensor.dtype);
    const std::size_t count = tensor.bytes.size() / width;
    tensor.bytes.resize(count * width);
    tensor.shape = {static_cast<std::int64_t>(count)};
  }

  ByteView bytes_;
};

}  // namespace fedctl::test
