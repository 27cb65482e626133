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

// "pixels" or "features" of a batch. Throws DataError if there is neither.
const Tensor& image_of(const data::Batch& batch);
// Throws DataError unless inputs have the shape of `info` and labels, if present, are its classes.
void check_images(const data::Batch& batch, const data::DatasetInfo& info);

// Throws DataError unless "tokens" is i64 [n,t], 1 <= t <= longest, in [0, vocabulary), and the
// labels, if present, are alike or data::kIgnore.
void check_tokens(const data::Batch& batch, std::int64_t vocabulary, std::int64_t longest);

}  // namespace fedctl::learn
