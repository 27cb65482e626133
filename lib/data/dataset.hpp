// Dataset: examples by index. Batch: what a model takes in one step, tensors by name.
//
//   task "classify": "pixels" f32 [n,channels,height,width] or "features" f32 [n,width]
//                    or text;  "labels" i64 [n]
//   task "language": text; "labels" i64 [total], the token to predict at each position, kIgnore
//                    where nothing is to be predicted
//   text:            "tokens" i64 [total], the texts one behind the other, without padding;
//                    "lengths" i64 [n], each >= 1, total = their sum; and for pairs of texts
//                    "segments" i64 [total], 0 in the first and 1 in the second
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.hpp"

namespace fedctl::data {

using Batch = TensorMap;
inline constexpr std::int64_t kIgnore = -100;

enum class Task { classify, language, regress };

// What a model needs to know of the data before it is built.
struct DatasetInfo {
  Task task = Task::classify;
  std::vector<std::string> classes;  // names, in label order; empty for language
  Shape input_shape;                 // [c,h,w], [features], or {} for tokens
  std::int64_t vocabulary = 0;       // tokens only
  std::string
      vocabulary_digest;  // of the tokenizer, compared in the handshake; "" if there is none
  std::vector<std::string> notes;  // for people: rows that were skipped, and why
};

// A question and its answer, for generation: exact match compares `answer` with
// answer_in(what the model wrote, answer_after).
struct Exchange {
  std::vector<std::int64_t> prompt;  // tokens
  std::string answer;
  std::string answer_after;
};
// What stands behind the last `marker`, trimmed; the whole text, trimmed, if the marker is empty or
// does not occur.
std::string answer_in(std::string_view text, std::string_view marker);

class Tokenizer;

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual const DatasetInfo& info() const = 0;
  virtual std::size_t size() const = 0;
  // The class, or 0 for language. Precondition: index < size().
  virtual std::int64_t label(std::size_t index) const = 0;
  // Tokens in the example; 1 for images and features.
  virtual std::size_t length(std::size_t index) const = 0;
  // Natural owner of the example ("hand 12", "ROMEO"), the key of partitioner by_field; "" if none.
  virtual std::string field(std::size_t index) const = 0;
  // The examples, in this order, as one batch. Precondition: at least one; all indices < size().
  virtual Batch gather(std::span<const std::size_t> indices) const = 0;
  // Nothing if the examples are no questions with answers. Precondition: index < size().
  virtual std::optional<Exchange> exchange(std::size_t) const { return std::nullopt; }
  // Of the tokens; null if there are none or no text lies behind them. Lives as long as the data.
  virtual const Tokenizer* tokenizer() const { return nullptr; }
};

// Train and test parts. `test` may be empty (size 0): then the server's test set is made of the
// clients' held-out examples.
struct Source {
  std::unique_ptr<Dataset> train;
  std::unique_ptr<Dataset> test;
};

// One client's examples, as indices into Source::train.
struct Share {
  std::vector<std::size_t> train;
  std::vector<std::size_t> holdout;
};

}  // namespace fedctl::data
