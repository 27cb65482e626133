#include "methods/detail/split.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "math/vectors.hpp"

namespace fedctl::methods {
namespace {

std::vector<double> softmax(std::span<const float> logits) {
  const double most = *std::ranges::max_element(logits);
  std::vector<double> shares;
  double sum = 0;
  for (const float value : logits) sum += shares.emplace_back(std::exp(value - most));
  for (double& share : shares) share /= sum;
  return shares;
}

std::span<const float> row_of(const Tensor& matrix, std::size_t row) {
  const auto width = static_cast<std::size_t>(matrix.shape[1]);
  return matrix.f32().subspan(row * width, width);
}

const Tensor& tensor_in(const wire::Message& message, const std::string& name, DType dtype) {
  const auto found = message.tensors.find(name);
  if (found == message.tensors.end() || found->second.dtype != dtype) {
    throw ProtocolError('"' + message.kind + "\" has no " + dtype_name(dtype) + " tensor \"" +
                        name + '"');
  }
  return found->second;
}

}  // namespace

TensorMap Segment::forward(learn::Learner& learner, TensorMap inputs) const {
  for (const std::string& part : parts) inputs = learner.forward(part, inputs);
  return inputs;
}

TensorMap Segment::backward(learn::Learner& learner, TensorMap output_gradients) const {
  for (std::size_t i = parts.size(); i-- > 0;) {
    output_gradients = learner.backward(parts[i], output_gradients);
  }
  return output_gradients;
}

Cut cut_model(const learn::Learner& learner, std::int64_t blocks) {
  const std::vector<std::string> parts = learner.parts();
  if (parts.empty()) {
    throw ConfigError(
        "model.kind is one that cannot be cut into parts, but method.kind asks for it",
        "vit, bert, kwt, llama and gpt2 can be cut");
  }
  const auto depth = static_cast<std::int64_t>(parts.size()) - 2;
  if (blocks >= depth) {
    throw ConfigError("method.blocks is " + std::to_string(blocks) + ", but the model has " +
                          std::to_string(depth) + " blocks",
                      "at least one is the server's");
  }
  const auto cut = parts.begin() + 1 + blocks;
  return {{{parts.begin(), cut}}, {{cut, parts.end() - 1}}, {{parts.back()}}};
}

TensorMap first_rows(const TensorMap& state) {
  const Tensor& rows = state.at("rows");
  const auto lengths = state.at("lengths").i64();
  const auto count = static_cast<std::int64_t>(lengths.size());
  Tensor first = Tensor::zeros(DType::f32, {count, rows.shape[1]});
  auto to = first.f32().begin();
  std::size_t row = 0;
  for (const std::int64_t length : lengths) {
    to = std::ranges::copy(row_of(rows, row), to).out;
    row += static_cast<std::size_t>(length);
  }
  const std::vector<std::int64_t> ones(lengths.size(), 1);
  return {{"rows", std::move(first)},
          {"lengths", Tensor::of(std::span<const std::int64_t>(ones), {})}};
}

Tensor among_zeros(const Tensor& first, const TensorMap& state) {
  Tensor rows = Tensor::zeros(DType::f32, state.at("rows").shape);
  const std::int64_t width = rows.shape[1];
  std::int64_t row = 0;
  std::size_t example = 0;
  for (const std::int64_t length : state.at("lengths").i64()) {
    std::ranges::copy(row_of(first, example++), rows.f32().begin() + row * width);
    row += length;
  }
  return rows;
}

Tensor bytes_of_rows(const Tensor& rows) {
  return {DType::u8, {static_cast<std::int64_t>(rows.bytes.size())}, rows.bytes};
}

Tensor rows_in(const wire::Message& message, std::span<const std::int64_t> lengths) {
  const Bytes& bytes = tensor_in(message, "rows", DType::u8).bytes;
  const std::int64_t total = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  const auto count = static_cast<std::int64_t>(bytes.size() / sizeof(float));
  if (bytes.empty() || bytes.size() % sizeof(float) != 0 || count % total != 0) {
    throw ProtocolError('"' + message.kind +
                        "\", tensor \"rows\": " + std::to_string(bytes.size()) + " bytes are not " +
                        std::to_string(total) + " rows of float32");
  }
  Tensor rows{DType::f32, {total, count / total}, bytes};
  if (!math::all_finite(rows.f32())) {
    throw ProtocolError('"' + message.kind + "\", tensor \"rows\" is not finite");
  }
  return rows;
}

std::vector<std::int64_t> lengths_in(const wire::Message& message, std::int64_t examples_max) {
  constexpr std::int64_t kLengthMax = std::int64_t{1} << 20;
  const Tensor& tensor = tensor_in(message, "lengths", DType::i64);
  const auto lengths = tensor.i64();
  if (lengths.empty() || static_cast<std::int64_t>(lengths.size()) > examples_max) {
    throw ProtocolError('"' + message.kind + "\" has " + std::to_string(lengths.size()) +
                        " examples, a batch has 1 to " + std::to_string(examples_max));
  }
  for (const std::int64_t length : lengths) {
    if (length >= 1 && length <= kLengthMax) continue;
    throw ProtocolError('"' + message.kind + "\" has an example of " + std::to_string(length) +
                        " rows");
  }
  return {lengths.begin(), lengths.end()};
}

Loss cross_entropy(const Tensor& logits, std::span<const std::int64_t> labels) {
  Loss loss{0, Tensor::zeros(DType::f32, logits.shape)};
  const double share = 1 / static_cast<double>(labels.size());
  auto to = loss.slope.f32().begin();
  for (std::size_t row = 0; row < labels.size(); ++row) {
    const std::vector<double> chances = softmax(row_of(logits, row));
    const auto label = static_cast<std::size_t>(labels[row]);
    loss.mean -= std::log(std::max(chances[label], 1e-300)) * share;
    for (std::size_t i = 0; i < chances.size(); ++i) {
      *to++ = static_cast<float>((chances[i] - (i == label ? 1 : 0)) * share);
    }
  }
  return loss;
}

std::vector<double> el2n(const Tensor& logits, std::span<const std::int64_t> labels) {
  std::vector<double> scores;
  for (std::size_t row = 0; row < labels.size(); ++row) {
    std::vector<double> gaps = softmax(row_of(logits, row));
    gaps[static_cast<std::size_t>(labels[row])] -= 1;
    double squares = 0;
    for (const double gap : gaps) squares += gap * gap;
    scores.push_back(std::sqrt(squares));
  }
  return scores;
}

std::vector<std::size_t> select(std::span<const double> scores, double keep, bool largest) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return largest ? scores[a] > scores[b] : scores[a] < scores[b];
  });
  // 1e-9: 0.1 * 30 is not a little more than 3.
  const double count = std::ceil(keep * static_cast<double>(scores.size()) - 1e-9);
  order.resize(std::max<std::size_t>(1, static_cast<std::size_t>(count)));
  std::ranges::sort(order);
  return order;
}

}  // namespace fedctl::methods
