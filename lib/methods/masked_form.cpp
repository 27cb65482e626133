#include <algorithm>
#include <cmath>
#include <numeric>

#include "codec/detail/bits.hpp"
#include "codec/detail/hadamard.hpp"
#include "methods/detail/masked.hpp"

namespace fedctl::methods {
namespace {

constexpr double kLossMax = 100;  // nats; larger losses count as this
// Two, because an update may have few values that are not 0.
constexpr unsigned kRotations = 2;

}  // namespace

std::size_t SecurePlan::neighbours_of(std::size_t clients) const {
  const std::size_t others = clients - std::min<std::size_t>(1, clients);
  return few == 0 ? others : std::min(few, others);
}

std::size_t SecurePlan::threshold_of(std::size_t neighbours) const {
  // Never half: a server that tells two halves of them different things would get both shares.
  const std::size_t most = neighbours / 2 + 1;
  return few > 0 && neighbours == few ? std::max(few_threshold, most) : most;
}

MaskedForm::MaskedForm(const JobPlan& plan, std::int64_t round)
    : plan_(plan.secure),
      quantizer_(plan_.clip, plan_.levels, static_cast<std::size_t>(plan.per_round)),
      support_(plan.common.stream("support", round)),
      rotation_(plan.common.stream("rotation", round).next_u64()) {
  if (quantizer_.bits() == 0) {
    throw ConfigError("privacy.secure_aggregation.levels is " + std::to_string(plan_.levels) +
                          ": sums of " + std::to_string(plan.per_round) +
                          " clients do not fit into 32 bits",
                      "lower levels");
  }
}

std::vector<std::size_t> MaskedForm::sent(std::size_t values) const {
  std::vector<std::size_t> positions;
  if (plan_.ratio < 1) {
    positions = Rng(support_).permutation(values);
    positions.resize(count(values) - 2);
    std::ranges::sort(positions);
  } else {
    positions.resize(values);
    std::iota(positions.begin(), positions.end(), std::size_t{0});
  }
  return positions;
}

std::size_t MaskedForm::count(std::size_t values) const {
  return 2 + static_cast<std::size_t>(std::ceil(plan_.ratio * static_cast<double>(values)));
}

std::vector<std::uint32_t> MaskedForm::words(const Message& update, Rng rng) const {
  const wire::Expect fields(update, update.kind);
  const auto q = static_cast<double>(plan_.levels);
  const double examples = static_cast<double>(fields.integer("examples", 1, INT64_MAX));
  const double weight =
      std::clamp(std::round(q * examples / static_cast<double>(plan_.examples_max)), 1.0, q);
  std::vector<float> values;
  for (const auto& [name, tensor] : update.tensors) {
    if (tensor.dtype != DType::f32) continue;
    values.insert(values.end(), tensor.f32().begin(), tensor.f32().end());
  }
  if (plan_.rotate) {
    const codec::detail::Rotation rotation(values.size(), kRotations);
    rotation.check_input(values);
    rotation.rotate(values, rotation_);
  }
  std::vector<std::uint32_t> words;
  for (const std::size_t position : sent(values.size())) {
    const double value = std::clamp(double{values[position]}, -plan_.clip, plan_.clip);
    words.push_back(quantizer_.encode(value * weight / q, rng));
  }
  const double loss = std::clamp(fields.real("loss"), 0.0, kLossMax) / kLossMax * weight;
  words.push_back(static_cast<std::uint32_t>(std::floor(loss + rng.uniform_double())));
  words.push_back(static_cast<std::uint32_t>(weight));
  return words;
}

Message MaskedForm::mean(std::span<const std::uint32_t> sums, std::size_t clients,
                         const Message& like) const {
  const auto q = static_cast<double>(plan_.levels);
  const auto weight = static_cast<double>(sums.back());
  const auto count = static_cast<double>(clients);
  // A client's value is at most `clip` times its weight, rounded by less than one level.
  const double most = plan_.clip * (weight + 2 * count) / q;
  const auto values_sums = sums.first(sums.size() - 2);
  if (weight < count || weight > q * count || sums[values_sums.size()] > sums.back() ||
      std::ranges::any_of(values_sums, [&](std::uint32_t sum) {
        return std::abs(quantizer_.decode(sum, clients)) > most;
      })) {
    throw ProtocolError("the sum is none of " + std::to_string(clients) +
                        " updates: somebody's words are no update");
  }
  std::size_t size = 0;
  for (const auto& [name, tensor] : like.tensors) size += tensor.f32().size();
  std::vector<float> values(size);
  const std::vector<std::size_t> positions = sent(size);
  const double scale =
      q / weight * static_cast<double>(size) / static_cast<double>(positions.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    values[positions[i]] = static_cast<float>(quantizer_.decode(sums[i], clients) * scale);
  }
  if (plan_.rotate) codec::detail::Rotation(size, kRotations).unrotate(values, rotation_);
  Message mean = like;
  std::size_t at = 0;
  for (auto& [name, tensor] : mean.tensors) {
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(at), tensor.f32().size(),
                tensor.f32().begin());
    at += tensor.f32().size();
  }
  const double examples = weight / q * static_cast<double>(plan_.examples_max);
  mean.scalars["examples"] = std::max<std::int64_t>(1, std::llround(examples));
  mean.scalars["loss"] = static_cast<double>(sums[positions.size()]) * kLossMax / weight;
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
