// What diloco, streaming_diloco and decoupled_diloco share: options, the rota of the fragments, the
// outer step and the client. Messages: diloco.cpp.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "methods/detail/fragments.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

struct OuterOptions {
  double lr = 0.7, momentum = 0.9, alpha = 0;
  std::int64_t fragments = 1, overlap = 0;
  std::string pattern = "strided";
  void fields(config::Fields& fields);
};

// Which fragment is whose, on both sides.
class Rota {
 public:
  Rota(const OuterOptions& options, const JobPlan& plan);
  std::size_t of_round(std::int64_t round) const {
    return static_cast<std::size_t>(round - 1) % fragments_.size();
  }
  const Fragment& fragment(std::size_t p) const { return fragments_[p]; }
  std::size_t count() const { return fragments_.size(); }
  std::size_t weights() const;  // of all fragments
  // Renewed by rounds from .. round - 1; all of them if from is 0.
  std::set<std::size_t> renewed(std::int64_t from, std::int64_t round) const;
  // The message that brings them.
  Message question(std::int64_t from, std::int64_t round, std::span<const float> weights) const;
  static std::string named(const char* what, std::size_t p);

 private:
  std::vector<Fragment> fragments_;
};

// b <- momentum b + Delta; theta <- theta - lr (Delta + momentum b), on one fragment.
class OuterStep {
 public:
  OuterStep(const OuterOptions& options, const JobPlan& plan)
      : options_(options), b_(plan.layout.size()) {}
  void step(const Fragment& fragment, std::span<const float> delta, std::span<float> weights);
  void save(Message& state) const;
  void load(const Message& state);  // throws WireError

 private:
  OuterOptions options_;
  std::vector<float> b_;
};

// `counts`: its answers also say "round", the question they answer, and what the client has trained
// since it last received the fragment, "tokens" and "token_steps"; a question may say "steps", how
// many it is to train.
std::unique_ptr<ClientMethod> make_diloco_client(const OuterOptions& options, const JobPlan& plan,
                                                 bool counts);

}  // namespace fedctl::methods
