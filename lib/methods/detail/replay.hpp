// Methods whose rounds are steps along fresh random directions: all that the parties share is a log
// of numbers, from which each has the same weights, bit for bit. decomfl, meerkat, just_one_byte.
//
//   server -> client  "train"   {"round"; "from", u8 "log": the entries of rounds
//                     from .. round - 1, or f32 "weights" and "curvature" after round - 1,
//                     whichever is shorter; at first contact u8 "mask", if there is one; "steps"
//                     if not the plan's}
//   client            catches up, measures at its weights
//   client -> server  "update"  {u8 "measured"; "examples", "loss", "steps"}
//   server            makes the round's entry of all answers, and takes its step like everyone
//
// A client that lacks what the log goes on from says so ("behind"), and gets all of it next time.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "methods/detail/scalars.hpp"
#include "methods/detail/seeds.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

// Where a party stands: its weights after `round` rounds.
struct Replica {
  std::int64_t round = 0;
  std::span<float> weights = {};
  std::vector<float> curvature = {};  // of the directions; empty: none
};

// One client's part of a round.
struct Measured {
  Bytes bytes;      // as the rule writes them
  double loss = 0;  // mean
  std::int64_t steps = 0;
};

// Of a round, by client; as the rule has checked them.
using Answers = std::map<PeerId, ByteView>;

// What differs between the methods. `plan` outlives it.
class Rule {
 public:
  Rule(const JobPlan& plan_, const std::string& scalars)
      : plan(plan_), code(scalars), directions(plan_.layout.size()) {}
  virtual ~Rule() = default;

  virtual std::vector<float> first_curvature() const { return {}; }
  // The length of the numbers in the answer of a client that was asked for so many steps,
  // Euclidean. Throws WireError on bytes that measure() could not have made.
  virtual double norm(ByteView answer, std::int64_t steps) const = 0;
  // The measurements of round replica.round + 1. The learner has the replica's weights, and is left
  // anywhere.
  virtual Measured measure(const Replica& replica, std::int64_t steps, learn::Learner& learner,
                           ClientContext& ctx) const = 0;
  // The entry of round replica.round + 1 in the log.
  virtual Bytes entry(const Replica& replica, const Answers& answers,
                      aggregate::Aggregator& aggregator) const = 0;
  // Length of the first entry of a log. Throws WireError if the log ends in it.
  virtual std::size_t entry_bytes(ByteView log) const = 0;
  // Takes the step of the entry. Throws WireError on bytes that entry() could not have made.
  virtual void advance(Replica& replica, ByteView entry) const = 0;

  // Of the server alone. The mask, if the method has one; once a run.
  virtual std::vector<std::size_t> choose_mask(ServerContext&) { return {}; }
  virtual bool has_mask() const { return false; }
  // Steps that a client is asked for.
  virtual std::int64_t steps_of(PeerId) const { return plan.train.steps; }
  // After each round; `replica` is as before it.
  virtual void observe(const Replica&, const Answers&, ServerContext&) {}
  virtual void save(Message&) const {}
  virtual void load(const Message&) {}

  const JobPlan& plan;
  ScalarCode code;
  Directions directions;
};

std::unique_ptr<ServerMethod> make_replay_server(std::unique_ptr<Rule> rule);
std::unique_ptr<ClientMethod> make_replay_client(std::unique_ptr<Rule> rule);
// The same as a MethodEntry's makers, for a rule R that is made of options O and the plan.
template <class R, class O>
std::unique_ptr<ServerMethod> replay_server(const config::Options& options, const JobPlan& plan) {
  return make_replay_server(std::make_unique<R>(dynamic_cast<const O&>(options), plan));
}
template <class R, class O>
std::unique_ptr<ClientMethod> replay_client(const config::Options& options, const JobPlan& plan) {
  return make_replay_client(std::make_unique<R>(dynamic_cast<const O&>(options), plan));
}

}  // namespace fedctl::methods
