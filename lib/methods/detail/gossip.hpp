// Methods without a server in the middle: every client has a model of its own and exchanges values
// with its neighbours in a graph; the server starts the rounds, watches and stops. dpsgd, dadao.
//
//   server -> client   "train"   {"round"; f32 "weights" [d] for one that has lost its model}
//   client <-> client  "gossip"  {f32 "value" [d]}, in the exchanges of the round
//                      "past"    {} to one that asks for an exchange which is over here
//   client -> server   "update"  {f32 "weights" [d], its model, in the rounds that are watched;
//                      "examples", "loss", "steps"; "peers.*": bytes it sent to its neighbours}
//   server             weights = the mean of the models
//
// Payload of a client and round: what the method exchanges with neighbours, and 4 d up in every
// `watch`-th round and the last one.
//
// A neighbour that is lost, is silent for a quarter of the deadline or has gone on takes no part in
// an exchange: nobody waits for it again before it speaks. A server that is killed is waited for; a
// client that is killed begins its round again, alone with those who still are in it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "methods/detail/graph.hpp"
#include "methods/method.hpp"

namespace fedctl::methods {

struct GossipOptions : config::Options {
  std::string graph = "ring";
  std::int64_t watch = 1;
  void fields(config::Fields& fields) override;
};

// One client's side of the exchanges.
class Gossip {
 public:
  explicit Gossip(std::vector<PeerId> neighbours) : neighbours_(std::move(neighbours)) {}

  // Everyone may be waited for again, each time for so long.
  void begin(double patience_s) {
    gone_.clear();
    patience_s_ = patience_s;
  }
  // What the two sides of an exchange have read of each other, by neighbour.
  struct Exchanged {
    std::vector<float> ours, theirs;
  };
  using All = std::map<PeerId, Exchanged>;
  // Sends `value` to some neighbours, and takes theirs of the exchange of that number; both ends of
  // every edge count alike, and up. Who takes no part is left out. nullopt: the run is over.
  Task<std::optional<All>> exchange(Endpoint& net, ExchangeId number, std::vector<PeerId> with,
                                    std::vector<float> value);
  // What arrives outside of exchange(), but Closed.
  Task<void> hear(Endpoint& net, talk::Envelope envelope);
  // Waits for the links to the neighbours, so long at most. False: the run is over.
  Task<bool> gather(Endpoint& net, double patience_s);
  // A task that came in the middle of a round.
  std::optional<talk::Envelope> take_task() { return std::exchange(task_, std::nullopt); }

 private:
  void give_up(PeerId neighbour);
  void accept(PeerId from, const Message& message);

  std::vector<PeerId> neighbours_;
  double patience_s_ = 0;
  ExchangeId now_ = 0;                                     // the last exchange
  std::size_t size_ = 0;                                   // of its values
  std::set<PeerId> open_, gone_;                       // awaited; not to be waited for
  std::map<PeerId, std::vector<float>> theirs_;        // of the exchange that goes on
  std::map<PeerId, std::map<ExchangeId, Message>> early_;  // of later ones, at most a few
  std::optional<talk::Envelope> task_;
};

// Exchange `place` (< 2^40) of a round.
constexpr ExchangeId exchange_of(std::int64_t round, std::uint64_t place) {
  return static_cast<ExchangeId>(round) << 40 | place;
}

// What a method does in a round.
class GossipWork {
 public:
  virtual ~GossipWork() = default;
  // Begins with a model, as at the start of the run.
  virtual void start(std::span<const float> weights) = 0;
  virtual std::span<const float> model() const = 0;  // empty: not started
  // Changes the model. nullopt: the run is over.
  virtual Task<std::optional<learn::TrainReport>> round(std::int64_t round, Endpoint& net,
                                                        Gossip& gossip, ClientContext& ctx) = 0;
  virtual void save(Message& state) const = 0;
  virtual void load(const Message& state) = 0;  // of a client that has started
};

std::unique_ptr<ServerMethod> make_gossip_server(const config::Options& options);
std::unique_ptr<ClientMethod> make_gossip_client(const config::Options& options,
                                                 const JobPlan& plan,
                                                 std::unique_ptr<GossipWork> work);
// What the entries of these methods have alike; make_client is to be added.
MethodEntry gossip_entry(config::Kind kind);

}  // namespace fedctl::methods
