#include "run/update_recorder.hpp"

#include <array>
#include <cstdio>
#include <map>
#include <utility>
#include <variant>

#include "data/safetensors.hpp"

namespace fedctl::run {
namespace {

std::string text_of(const wire::Scalar& scalar) {
  if (const auto* text = std::get_if<std::string>(&scalar)) return *text;
  if (const auto* yes = std::get_if<bool>(&scalar)) return *yes ? "true" : "false";
  if (const auto* number = std::get_if<std::int64_t>(&scalar)) return std::to_string(*number);
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.17g", std::get<double>(scalar));
  return text.data();
}

}  // namespace

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

void UpdateRecorder::record(talk::ExchangeId exchange, const talk::Message& message) {
  TensorMap kept;
  for (const auto& [name, tensor] : message.tensors) {
    if (tensor.dtype == DType::coded) {
      const auto bytes = static_cast<std::int64_t>(tensor.bytes.size());
      kept.emplace(name, Tensor{DType::u8, {bytes}, tensor.bytes});
    } else if (tensor.dtype != DType::f32 || tensor.f32().size() != layout_.size()) {
      kept.emplace(name, tensor);
    } else {
      for (const Block& block : layout_.blocks()) {
        kept.emplace(name + ':' + block.name,
                     Tensor::of(tensor.f32().subspan(block.offset, block.count), block.shape));
      }
    }
  }
  std::map<std::string, std::string> metadata;
  for (const auto& [name, scalar] : message.scalars) metadata.emplace(name, text_of(scalar));
  metadata["kind"] = message.kind;

  if (std::exchange(exchange_, exchange) != exchange) messages_ = 0;
  const std::string number = ++messages_ > 1 ? '-' + std::to_string(messages_) : "";
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "/exchange-%06llu-client-%06lld",
                static_cast<unsigned long long>(exchange), static_cast<long long>(id_));
  data::write_safetensors(folder_ + name.data() + number + ".safetensors", kept, metadata);
}

}  // namespace fedctl::run
