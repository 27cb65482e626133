// quadratic: the toy back end. Its minimum and every step towards it are known in closed form, so
// the algebra of a method can be tested against a formula.
#pragma once

#include <memory>

#include "learn/learner.hpp"
#include "learn/spec.hpp"

namespace fedctl::learn {

// Learners on w in R^d, one block "w" of group "base", 0 at first; d is the product of
// data.input_shape. A batch holds "target", f32 [n,d]; the loss is the mean over n of 0.5 |w -
// target|^2 and its gradient w - mean(target). If it also holds "curvature", f32 [n,d], each squared
// coordinate counts so many times. evaluate() counts examples, none of them correct.
// logits() throws DataError: there are none. save_adapter() writes config.json and
// model.safetensors. Throws ConfigError unless the adapter is `full` and the data has an input
// shape.
std::unique_ptr<LearnerFactory> make_quadratic_factory(const LearnerSpec& spec);

}  // namespace fedctl::learn
