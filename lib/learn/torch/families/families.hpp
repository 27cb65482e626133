// What family files share: their makers and the checks of what comes in.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

#define TORCH_FAMILY(name)                                                       \
  std::unique_ptr<Family> make_##name(const LearnerSpec& spec, Builder& builder, \
                                      const Checkpoint* file);
#define PLAIN_FAMILY(name)
#include "learn/families.def"
#undef TORCH_FAMILY
#undef PLAIN_FAMILY

// Throws ConfigError unless the data are examples with classes and inputs of `rank` axes (0: any).
void require_images(const LearnerSpec& spec, std::size_t rank);

// Throws ConfigError unless the data are texts with classes (classify), or texts to continue
// (language).
void require_text(const LearnerSpec& spec, data::Task task);
// Throws DataError if the data's tokenizer has more tokens than the model.
void require_vocabulary(const LearnerSpec& spec, std::int64_t vocabulary);
// Throws unless heads divide the width: DataError if they come from a file, else ConfigError.
void require_heads(const LearnerSpec& spec, const Checkpoint* file, std::int64_t width,
                   std::int64_t heads);

// "pixels" or "features" of a batch. Throws DataError if there is neither.
const Tensor& image_of(const data::Batch& batch);
// Throws DataError unless inputs have the shape of `info` and labels, if present, are its classes.
void check_images(const data::Batch& batch, const data::DatasetInfo& info);

// Throws DataError unless "tokens" is i64 [total], in [0, vocabulary), "lengths" i64 [n], each from
// 1 to longest, total in all, and "segments", if present, like the tokens, of 0 and 1.
void check_tokens(const data::Batch& batch, std::int64_t vocabulary, std::int64_t longest);
// Throws DataError unless the labels, if present, are one a token, in [0, vocabulary) or
// data::kIgnore.
void check_next_tokens(const data::Batch& batch, std::int64_t vocabulary);
// Throws DataError unless the labels, if present, are i64 [count], in [0, classes).
void check_classes(const data::Batch& batch, std::int64_t count, std::size_t classes);
// The lengths of a batch that was checked.
std::vector<std::int64_t> lengths_of(const data::Batch& batch);

// 0, 1, 2, ... for each text, one behind the other.
at::Tensor positions_of(const std::vector<std::int64_t>& lengths);
// The first row of each text.
at::Tensor first_rows(const std::vector<std::int64_t>& lengths);

// The soft prompt of a language model, [tokens, width], or undefined if the adapter has none. It
// starts as rows of the embedding drawn at random (Lester et al., section 3.2, "sampled
// vocabulary"). Throws ConfigError unless the model's context has room for it and a token.
at::Tensor make_text_prompt(Builder& builder, const at::Tensor& embedding, std::int64_t context);
// The prefix of a language model: as Builder::prefix(), with the same check.
Prefix make_prefix(Builder& builder, std::int64_t depth, std::int64_t heads, std::int64_t width,
                   std::int64_t context);
inline std::int64_t prompt_tokens(const at::Tensor& prompt) {
  return prompt.defined() ? prompt.size(0) : 0;
}
// `prompt` (tokens, width) in front of each sequence of `rows` (total, width); lengths grow by its
// rows. And the sequences without their first `tokens` rows again; lengths shrink.
at::Tensor put_in_front(const at::Tensor& prompt, const at::Tensor& rows,
                        std::vector<std::int64_t>& lengths);
at::Tensor take_behind(std::int64_t tokens, const at::Tensor& rows,
                       std::vector<std::int64_t>& lengths);

}  // namespace fedctl::learn
