// Greedy generation, and what it is measured by.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "learn/pool.hpp"

namespace fedctl::learn {

// What the model writes behind each prompt (at least one token): the likeliest token at every
// position, of equals the first, until `end` (which is left out; -1: none), `longest` tokens, or
// the model's context. A prompt as long as the context gets nothing. Every token costs a pass over
// its text.
std::vector<std::vector<std::int64_t>> generate(Learner& learner,
                                                std::vector<std::vector<std::int64_t>> prompts,
                                                std::int64_t end, std::int64_t longest);

struct ExactMatchOptions {
  std::int64_t longest = 128;   // tokens of an answer
  std::int64_t examples = 100;  // the first so many of the indices; 0: all
};
// Share of the exchanges (data::Dataset::exchange) that `weights` answer to the letter, on one
// learner; NaN if there are none. Precondition: the data have a tokenizer.
double exact_match(LearnerPool& pool, std::span<const float> weights, const data::Dataset& data,
                   std::span<const std::size_t> indices, const ExactMatchOptions& options);

}  // namespace fedctl::learn
