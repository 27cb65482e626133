#include <algorithm>

#include "methods/detail/diloco.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {

void OuterOptions::fields(config::Fields& fields) {
  fields.real("lr", lr, {.above = 0}, "outer learning rate");
  fields.real("momentum", momentum, {.min = 0, .below = 1}, "outer momentum, Nesterov's");
  fields.integer("fragments", fragments, {1, 4096}, "groups of layers, sent one a round");
  fields.text("pattern", pattern, {.one_of = {"strided", "sequential"}},
              "which layers are a fragment");
  fields.integer("overlap", overlap, {0, 1'000'000},
                 "steps that a client trains on before it takes in the answer");
  fields.real("alpha", alpha, {.min = 0, .max = 1}, "share of its own weights that it then keeps");
}

Rota::Rota(const OuterOptions& options, const JobPlan& plan)
    : fragments_(fragments_of(plan.layout, static_cast<std::size_t>(options.fragments),
                              options.pattern == "strided")) {}

std::size_t Rota::weights() const {
  std::size_t size = 0;
  for (const Fragment& fragment : fragments_) size += fragment.size();
  return size;
}

std::set<std::size_t> Rota::renewed(std::int64_t from, std::int64_t round) const {
  std::set<std::size_t> found;
  const auto all = static_cast<std::int64_t>(count());
  for (std::int64_t r = std::max<std::int64_t>(from, round - all); r < round && from > 0; ++r) {
    if (r > 0) found.insert(of_round(r));
  }
  for (std::size_t p = 0; p < count() && from == 0; ++p) found.insert(p);
  return found;
}

Message Rota::question(std::int64_t from, std::int64_t round,
                       std::span<const float> weights) const {
  Message made = Message("train").with("round", round).with("from", from);
  for (const std::size_t p : renewed(from, round)) {
    made.tensors.emplace(named("weights", p), Tensor::of(fragments_[p].of(weights), {}));
  }
  return made;
}

std::string Rota::named(const char* what, std::size_t p) {
  return std::string(what) + '.' + std::to_string(p);
}

void OuterStep::step(const Fragment& fragment, std::span<const float> delta,
                     std::span<float> weights) {
  const auto lr = static_cast<float>(options_.lr), mu = static_cast<float>(options_.momentum);
  fragment.each([&](std::size_t i, std::size_t n) {
    b_[i] = mu * b_[i] + delta[n];
    weights[i] -= lr * (delta[n] + mu * b_[i]);
  });
}

void OuterStep::save(Message& state) const {
  state.tensors.emplace("momentum", Tensor::of(b_, {}));
}

void OuterStep::load(const Message& state) { b_ = floats_in(state, "momentum", b_.size()); }

}  // namespace fedctl::methods
