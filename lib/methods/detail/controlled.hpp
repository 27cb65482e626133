// Controlled averaging with one vector up: what SCAFFOLD, SCALLION and SCAFCOM share. Every client
// has a control variate c_i, the server their mean c over all N clients, 0 at first.
//
//   server -> client  "train"   {f32 "weights" x [d], f32 "control" c [d]; "round"}
//   client            y = x, K steps y <- y - lr (g_i(y) - c_i + c)
//                     inc = (x - y) / sum lr - c = mean of the K gradients - c_i
//                     q_i = what the method makes of inc, as the codec leaves it
//                     c_i <- c_i + q_i
//   client -> server  "update"  {f32 "increment" q_i [d]; "examples", "loss", "steps", f64 "path",
//                     "used"}
//   server            x <- x - lr_g path (mean q_i + c),   c <- c + (S / N) mean q_i
//
// path is the mean over the S clients of sum lr, so schedules and unequal K are right; `used`
// counts the answers of this client that the server has used. After Huang, Li, Li, "Stochastic
// controlled averaging for federated learning with communication compression", ICLR 2024, arXiv
// 2308.08165.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "methods/method.hpp"

namespace fedctl::methods {

struct ControlledOptions : config::Options {
  double server_lr = 1;
  void fields(config::Fields& fields) override;
};

// How many answers of each client are in the server's mean of what the clients remember: that is
// only right with clients that have theirs.
class UsedAnswers {
 public:
  std::int64_t of(PeerId client) const;
  // Throws ProtocolError unless "used" of the update is as many.
  void require_same(PeerId client, const Message& update) const;
  void add(PeerId client) { ++used_[client]; }
  Tensor save() const;
  void load(const Message& state, const char* name);  // throws WireError

 private:
  std::map<PeerId, std::int64_t> used_;
};

// Replaces inc by what is to be sent. `control` is c_i; `memory` is the client's own vector, empty
// at first, kept between rounds.
using MakeIncrement = std::function<void(std::span<const float> control, std::vector<float>& memory,
                                         std::span<float> increment)>;

std::unique_ptr<ServerMethod> make_controlled_server(const config::Options& options,
                                                     const JobPlan& plan);
std::unique_ptr<ClientMethod> make_controlled_client(MakeIncrement make_increment,
                                                     const JobPlan& plan);

}  // namespace fedctl::methods
