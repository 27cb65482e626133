// Methods without rounds: clients are kept busy, each with the weights of the moment, and the
// server takes a step whenever enough answers are in. fedbuff, fedasync.
//
//   server -> client  "train"   {"round" = version + 1; f32 "weights" [d]}, to per_round clients at
//                     a time
//   client -> server  "update"  {"version" that it began from; "examples", "loss", "steps"; f32
//                     "delta" [d] = w - x, or "weights" w, as the method has it}
//   server            version t: the staleness of an answer is t - version; when `buffer` answers
//                     are in, the method's step, which makes version t + 1
//
// A step is a line in the journal, with what came since the one before. An answer frees its place
// at once; a client whose answer waits for the step is asked again only if nobody else is left, so
// with as many places as clients and a buffer of that size it is FedAvg.
//
// After a restart of the server every client that was at work is asked its question again, with the
// weights of the moment: one that has not lost it goes on, or sends the answer it has.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "methods/method.hpp"

namespace fedctl::methods {

// How much an old answer counts (Xie, Koyejo, Gupta, "Asynchronous federated optimization", 2019,
// arXiv 1903.03934, section 5.2).
struct StalenessOptions {
  std::string kind = "polynomial";
  double a = 0.5, b = 4;
  void fields(config::Fields& fields);
  // s(0) = 1. constant: 1; polynomial: (1 + staleness)^-a; hinge: 1 up to b, then
  // 1 / (a (staleness - b) + 1).
  double weight(std::int64_t staleness) const;
};

// An answer in the buffer.
struct Arrived {
  PeerId from = 0;
  ExchangeId exchange = 0;
  std::int64_t staleness = 0;
  std::vector<float> values;  // [d]
};

// What the methods add to it.
class BufferedStep {
 public:
  virtual ~BufferedStep() = default;
  // Makes the next version in ctx.weights. `answers` are sorted by client; it may change them.
  virtual void step(std::span<Arrived> answers, ServerContext& ctx) = 0;
  virtual Message save() const { return Message("state"); }
  virtual void load(const Message&) {}
};

struct BufferedPlan {
  std::int64_t buffer = 1;
  std::int64_t staleness_max = 0;  // older answers are rejected; 0: none is
  bool sends_weights = false;      // else the difference
};

std::unique_ptr<ServerMethod> make_buffered_server(const BufferedPlan& plan,
                                                   std::unique_ptr<BufferedStep> step);
// `mu`: of the proximal term mu / 2 |w - x|^2 in the local loss.
std::unique_ptr<ClientMethod> make_buffered_client(const BufferedPlan& plan, double mu);

}  // namespace fedctl::methods
