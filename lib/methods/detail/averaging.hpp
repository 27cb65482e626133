// The conversation that FedAvg and its relatives share: weights down, difference up, weighted mean,
// server optimiser. A relative differs by its gradient hook.
//
//   server -> client  "train"   {f32 "weights" [d]; "round"}
//   client -> server  "update"  {f32 "delta" [d] = w - x; "examples", "loss", "steps"}
#pragma once

#include <functional>
#include <memory>

#include "aggregate/server_optimizer.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

struct AveragingOptions : config::Options {
  config::Plugin server_optimizer;
  AveragingOptions();
  void fields(config::Fields& fields) override;
};

std::unique_ptr<aggregate::ServerOptimizer> make_server_optimizer(const AveragingOptions& options,
                                                                  const JobPlan& plan);

// The hook of one local training that starts at `start`; empty: none.
using MakeHook = std::function<learn::GradientHook(std::span<const float> start)>;

// Its server with any step.
std::unique_ptr<ServerMethod> make_stepping_server(
    std::unique_ptr<aggregate::ServerOptimizer> optimizer);
std::unique_ptr<ServerMethod> make_averaging_server(const config::Options& options,
                                                    const JobPlan& plan);
std::unique_ptr<ClientMethod> make_averaging_client(MakeHook make_hook);

}  // namespace fedctl::methods
