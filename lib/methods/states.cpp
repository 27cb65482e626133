#include "methods/detail/states.hpp"

namespace fedctl::methods {

std::vector<std::int64_t> integers_in(const Message& state, const char* name, std::size_t count) {
  const auto found = state.tensors.find(name);
  if (found == state.tensors.end() || found->second.dtype != DType::i64 ||
      (count > 0 && found->second.i64().size() != count)) {
    throw WireError('"' + state.kind + "\" has no numbers \"" + name + '"');
  }
  const auto values = found->second.i64();
  return {values.begin(), values.end()};
}

std::vector<float> floats_in(const Message& state, const char* name, std::size_t count) {
  if (!state.tensors.contains(name)) return {};
  const auto values = wire::Expect(state, state.kind).f32(name, {static_cast<std::int64_t>(count)});
  return {values.begin(), values.end()};
}

std::vector<double> doubles_in(const Message& state, const char* name, std::size_t count) {
  const auto found = state.tensors.find(name);
  if (found == state.tensors.end() || found->second.dtype != DType::f64 ||
      found->second.f64().size() != count) {
    throw WireError('"' + state.kind + "\" has no numbers \"" + name + '"');
  }
  const auto values = found->second.f64();
  return {values.begin(), values.end()};
}

Tensor by_peer(const std::map<PeerId, std::int64_t>& numbers) {
  std::vector<std::int64_t> rows;
  for (const auto& [peer, number] : numbers) rows.insert(rows.end(), {peer, number});
  return Tensor::of(rows, {static_cast<std::int64_t>(numbers.size()), 2});
}

std::map<PeerId, std::int64_t> by_peer_in(const Message& state, const char* name) {
  const std::vector<std::int64_t> rows = integers_in(state, name);
  if (rows.size() % 2 != 0) throw WireError('"' + state.kind + "\": \"" + name + "\" ends early");
  std::map<PeerId, std::int64_t> numbers;
  for (std::size_t i = 0; i < rows.size(); i += 2) numbers[rows[i]] = rows[i + 1];
  return numbers;
}

}  // namespace fedctl::methods
