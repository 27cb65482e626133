#include "run/update_recorder.hpp"

#include <array>
#include <cstdio>
#include <utility>

#include "data/safetensors.hpp"

namespace fedctl::run {

UpdateRecorder::UpdateRecorder(talk::Endpoint& inner, talk::PeerId id, const Layout& layout,
                               std::string folder)
    : inner_(inner), id_(id), layout_(layout), folder_(std::move(folder)) {}

talk::Task<void> UpdateRecorder::send(talk::PeerId to, talk::ExchangeId exchange,
                                      talk::SharedMessage message) {
  record(exchange, *message);
  return inner_.send(to, exchange, std::move(message));
}

talk::Task<void> UpdateRecorder::send_seen(talk::PeerId to, talk::ExchangeId exchange,
                                           talk::SharedMessage message, Seen seen) {
  record(exchange, *message);
  return inner_.send_seen(to, exchange, std::move(message), std::move(seen));
}

void UpdateRecorder::record(talk::ExchangeId exchange, const talk::Message& message) const {
  TensorMap kept;
  for (const auto& [name, tensor] : message.tensors) {
    if (tensor.dtype != DType::f32) continue;
    const std::span<const float> values = tensor.f32();
    if (values.size() != layout_.size()) {
      kept.emplace(name, tensor);
      continue;
    }
    for (const Block& block : layout_.blocks()) {
      kept.emplace(name + ':' + block.name,
                   Tensor::of(values.subspan(block.offset, block.count), block.shape));
    }
  }
  if (!kept.empty()) {
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), "/exchange-%06llu-client-%06lld.safetensors",
                  static_cast<unsigned long long>(exchange), static_cast<long long>(id_));
    data::write_safetensors(folder_ + name.data(), kept, {{"kind", message.kind}});
  }
}

}  // namespace fedctl::run
