// What fedkseed's server and client both know: options, directions, what an update says. The
// conversation is described in fedkseed.cpp.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "methods/detail/scalars.hpp"
#include "methods/detail/seeds.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

struct FedkseedOptions final : config::Options {
  std::int64_t candidates = 4096;
  double probe = 5e-4;
  std::string upload = "slopes", scalars = "float32";
  bool pro = false, ablate = false;
  double pro_clip = 1000;
  void fields(config::Fields& fields) override {
    fields.integer("candidates", candidates, {1, 65536}, "directions K");
    fields.real("probe", probe, {.above = 0}, "distance of the two losses; 1e-2 for LoRA");
    fields.text("upload", upload, {.one_of = {"slopes", "sums"}},
                "what a client sends: every slope with its direction, or a sum for each direction");
    fields.text("scalars", scalars, {.one_of = {"float32", "float16"}}, "how numbers are sent");
    fields.boolean("pro", pro, "draw directions with large slopes more often (FedKSeed-Pro)");
    fields.real("pro_clip", pro_clip, {.above = 0}, "largest magnitude that pro counts");
    fields.boolean("ablate", ablate, "pro: leave all chances alike");
  }
};

// What both sides know of the run.
struct Space {
  Space(const FedkseedOptions& options_, const JobPlan& plan_)
      : options(options_),
        plan(plan_),
        code(options_.scalars),
        directions(plan_.layout.size()),
        lr(learn::learning_rate(plan_.train.optimizer)) {}

  std::size_t count() const { return static_cast<std::size_t>(options.candidates); }
  std::uint64_t key(std::size_t j) const { return plan.common.stream("direction", j).key(); }
  // w0 - lr sum_j a_j z_j.
  void rebuild(std::span<const float> sums, std::span<float> weights) const {
    std::ranges::copy(plan.initial, weights.begin());
    for (std::size_t j = 0; j < sums.size(); ++j) {
      if (sums[j] != 0) directions.add(key(j), -lr * sums[j], weights);
    }
  }

  FedkseedOptions options;
  const JobPlan& plan;
  ScalarCode code;
  Directions directions;
  double lr;
};

// Directions and slopes of an update; sums have none.
struct Slopes {
  std::vector<std::size_t> seeds;
  std::vector<float> values;
};
inline Slopes slopes_in(const Message& update, const Space& space) {
  Slopes slopes;
  slopes.seeds = words_in(bytes_in(update, "seeds"), space.count());
  slopes.values = space.code.decode(bytes_in(update, "slopes"), slopes.seeds.size());
  return slopes;
}
// Sum of slopes by direction, [K].
inline std::vector<float> sums_in(const Message& update, const Space& space) {
  if (space.options.upload == "sums") {
    return space.code.decode(bytes_in(update, "sums"), space.count());
  }
  std::vector<float> sums(space.count());
  const Slopes slopes = slopes_in(update, space);
  for (std::size_t i = 0; i < slopes.seeds.size(); ++i) sums[slopes.seeds[i]] += slopes.values[i];
  return sums;
}

std::unique_ptr<ClientMethod> make_fedkseed_client(const FedkseedOptions& options,
                                                   const JobPlan& plan);

}  // namespace fedctl::methods
