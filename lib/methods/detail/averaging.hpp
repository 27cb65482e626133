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

class AveragingServer : public RoundServer {
 public:
  explicit AveragingServer(std::unique_ptr<aggregate::ServerOptimizer> optimizer);
  SharedMessage instruct(std::int64_t round, PeerId to, ServerContext& ctx) override;
  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override;
  std::optional<Message> blank(const ServerContext& ctx) const override;
  Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) override;
  Message save() const override;
  void load(const Message& state) override;

 private:
  std::unique_ptr<aggregate::ServerOptimizer> optimizer_;
  std::int64_t task_round_ = 0;
  SharedMessage task_;
};

// What a client answers that has gone from `start` to `trained`.
Message update_of(std::span<const float> trained, std::span<const float> start,
                  const learn::TrainReport& report);

// Its server with any step.
std::unique_ptr<ServerMethod> make_stepping_server(
    std::unique_ptr<aggregate::ServerOptimizer> optimizer);
std::unique_ptr<ServerMethod> make_averaging_server(const config::Options& options,
                                                    const JobPlan& plan);
std::unique_ptr<ClientMethod> make_averaging_client(MakeHook make_hook);

}  // namespace fedctl::methods
