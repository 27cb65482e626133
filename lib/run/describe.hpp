// A model seen by a process of its own, so that this one does not load LibTorch: 0.5 to 0.8 s of
// time all the same, but 160 MB less for as long as it lives.
#pragma once

#include <string>

#include "learn/description.hpp"
#include "learn/spec.hpp"

namespace fedctl::run {

// As a learner of this spec would be, freshly made; the file it is read from has a name in `folder`
// only while it is made. Throws what make_factory() throws, DataError also if the process ends by
// itself.
learn::Description describe_apart(const learn::LearnerSpec& spec, const std::string& folder);

}  // namespace fedctl::run
