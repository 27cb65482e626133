#include <algorithm>
#include <cmath>

#include "codec/detail/bits.hpp"
#include "methods/detail/masked.hpp"

namespace fedctl::methods {
namespace {

constexpr double kLossMax = 100;  // nats; larger losses count as this

}  // namespace

std::size_t SecurePlan::neighbours_of(std::size_t clients) const {
  const std::size_t others = clients - std::min<std::size_t>(1, clients);
  return few == 0 ? others : std::min(few, others);
}

std::size_t SecurePlan::threshold_of(std::size_t neighbours) const {
  return few > 0 && neighbours == few ? few_threshold : neighbours / 2 + 1;
}

MaskedForm::MaskedForm(const SecurePlan& plan, std::size_t clients)
    : plan_(plan), quantizer_(plan.clip, plan.levels, clients) {
  if (quantizer_.bits() == 0) {
    throw ConfigError(
        "privacy.secure_aggregation.levels is " + std::to_string(plan.levels) + ": sums of " +
            std::to_string(clients) + " clients do not fit into 32 bits",
        "at most " +
            std::to_string((std::int64_t{1} << 32) / static_cast<std::int64_t>(clients) - 1) +
            " levels for that cohort");
  }
}

std::vector<std::uint32_t> MaskedForm::words(const Message& update, Rng rng) const {
  const wire::Expect fields(update, update.kind);
  const auto q = static_cast<double>(plan_.levels);
  const double examples = static_cast<double>(fields.integer("examples", 1, INT64_MAX));
  const double weight =
      std::clamp(std::round(q * examples / static_cast<double>(plan_.examples_max)), 1.0, q);
  const double share = weight / q;
  std::vector<std::uint32_t> words;
  for (const auto& [name, tensor] : update.tensors) {
    if (tensor.dtype != DType::f32) continue;
    for (const float value : tensor.f32()) {
      words.push_back(
          quantizer_.encode(std::clamp(double{value}, -plan_.clip, plan_.clip) * share, rng));
    }
  }
  const double loss = std::clamp(fields.real("loss"), 0.0, kLossMax) / kLossMax * weight;
  words.push_back(static_cast<std::uint32_t>(std::floor(loss + rng.uniform_double())));
  words.push_back(static_cast<std::uint32_t>(weight));
  return words;
}

Message MaskedForm::mean(std::span<const std::uint32_t> sums, std::size_t count,
                         const Message& like) const {
  const auto q = static_cast<double>(plan_.levels);
  const auto weight = static_cast<double>(sums.back());
  if (weight < 1 || weight > q * static_cast<double>(count)) {
    throw ProtocolError("the sum of the weights is " + std::to_string(sums.back()));
  }
  Message mean = like;
  std::size_t at = 0;
  for (auto& [name, tensor] : mean.tensors) {
    for (float& value : tensor.f32()) {
      value = static_cast<float>(quantizer_.decode(sums[at++], count) * q / weight);
    }
  }
  const double examples = weight / q * static_cast<double>(plan_.examples_max);
  mean.scalars["examples"] = std::max<std::int64_t>(1, std::llround(examples));
  mean.scalars["loss"] = static_cast<double>(sums[at]) * kLossMax / weight;
  return mean;
}

Bytes MaskedForm::pack(std::span<const std::uint32_t> words) const {
  Bytes bytes;
  codec::detail::BitWriter writer(bytes);
  for (const std::uint32_t word : words) writer.number(word, bits());
  writer.finish();
  return bytes;
}

std::vector<std::uint32_t> MaskedForm::unpack(ByteView bytes, std::size_t count) const {
  if (bytes.size() != (count * bits() + 7) / 8) {
    throw WireError(std::to_string(bytes.size()) + " bytes of masked words, expected " +
                    std::to_string((count * bits() + 7) / 8));
  }
  codec::detail::BitReader reader(bytes);
  std::vector<std::uint32_t> words(count);
  for (std::uint32_t& word : words) word = static_cast<std::uint32_t>(reader.number(bits()));
  reader.finish();
  return words;
}

}  // namespace fedctl::methods
