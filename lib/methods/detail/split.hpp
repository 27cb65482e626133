// Pieces of methods that cut a model between a client and the server: its parts in three segments,
// what passes between them, and the loss where the labels are.
//
//   front  client  embed and the first blocks
//   body   server  the other blocks
//   tail   client  head
//
// Between segments travels what Learner::forward() says: "rows" f32 [sum of lengths, width] and
// "lengths" i64 [n]. On the wire rows are plain bytes (u8): they belong to other examples in every
// message, so there is nothing that a codec could remember.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "learn/learner.hpp"
#include "wire/message.hpp"

namespace fedctl::methods {

struct Segment {
  std::vector<std::string> parts;
  TensorMap forward(learn::Learner& learner, TensorMap inputs) const;
  // Precondition: forward() came before, with the same learner and weights. Adds to gradient().
  TensorMap backward(learn::Learner& learner, TensorMap output_gradients) const;
};

struct Cut {
  Segment front, body, tail;
};

// Throws ConfigError unless the model has parts and more than `blocks` blocks.
Cut cut_model(const learn::Learner& learner, std::int64_t blocks);

// The first row of each example, and back: gradients of these among zeros for the others.
TensorMap first_rows(const TensorMap& state);
Tensor among_zeros(const Tensor& first, const TensorMap& state);

// Rows as bytes, and those of a received message: as many as the lengths say, all finite. Throws
// ProtocolError; their width is what the bytes make of it.
Tensor bytes_of_rows(const Tensor& rows);
Tensor rows_in(const wire::Message& message, std::span<const std::int64_t> lengths);
// "lengths" of 1 to `examples_max` examples. Throws ProtocolError.
std::vector<std::int64_t> lengths_in(const wire::Message& message, std::int64_t examples_max);

// Mean cross entropy, nats. logits f32 [n, classes], a label a row.
struct Loss {
  double mean = 0;
  Tensor slope;  // d mean / d logits
};
Loss cross_entropy(const Tensor& logits, std::span<const std::int64_t> labels);

// || softmax(logits) - onehot(label) ||_2 of each row: EL2N, Paul et al., NeurIPS 2021,
// arXiv 2107.07075.
std::vector<double> el2n(const Tensor& logits, std::span<const std::int64_t> labels);

// The ceil(keep n) of so many scores that are largest (or smallest); of equals the first. Indices,
// ascending.
std::vector<std::size_t> select(std::span<const double> scores, double keep, bool largest);

}  // namespace fedctl::methods
