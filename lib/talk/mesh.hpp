// Mesh: server and clients in one process, on virtual time, over encoded frames. What `simulate`
// and the method tests run on.
//
// Conservative simulation. A participant that hears from one peer alone, without a deadline, gets
// its next frame as soon as it is sent: nothing earlier can come. So clients of one server run side
// by side on as many threads as there are. Everybody else is served when all are waiting, the
// earliest event first (by arrival, then sender, then order of sending), so no thread's speed shows
// in any result.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "talk/frame_cache.hpp"

namespace fedctl::talk {

// One client's link to the server. Zero bandwidth means unlimited.
struct Link {
  double latency_ms = 0;
  double up_mbit = 0, down_mbit = 0;
  double loss = 0;     // chance that a frame must be sent again, in [0, 1)
  double dropout = 0;  // chance that a client is lost when a task is sent to it, in [0, 1]
};

class Mesh {
 public:
  struct Options {
    std::vector<PeerId> clients;
    std::function<Link(PeerId)> link = [](PeerId) { return Link{}; };
    Rng rng{0};                // streams "loss" and "dropout" by (client, exchange)
    Ledger* ledger = nullptr;  // may be null
    // Whom a client sees beside the server.
    std::function<std::vector<PeerId>(PeerId)> neighbours = {};
    // If set, clients sleep: none is attached before a frame has come for it. This is called then,
    // by any thread, under the mesh's lock; the client attaches, receives, and rests.
    std::function<void(PeerId)> wake = {};
    // What the server's side would do first with what a client sends; on the client's thread, so
    // that it is done by all workers. Called as long as little that is unpacked waits.
    std::function<void(Envelope&)> unpack = {};
  };
  explicit Mesh(Options options);
  ~Mesh();

  // The endpoint of a participant whose coroutine runs on `executor` (a strand, or a one-thread
  // loop). Every participant that does not sleep must attach before any coroutine starts; the
  // endpoint lives as long as the mesh, or until rest().
  Endpoint& attach(PeerId id, boost::asio::any_io_executor executor);
  // The participant's coroutine has ended; its peers see Lost (a client) or Closed (the server).
  void detach(PeerId id, const std::string& reason);
  // The coroutine of a client that was woken has ended; it sleeps until the next frame for it.
  void rest(PeerId id);
  // From any thread: the server sees Closed as soon as nobody is busy.
  void interrupt();
  // Test seam: called before the n-th send (from 0) of all; true loses the sending client at that
  // point.
  void lose_at(std::function<bool(PeerId sender, std::size_t send_index)> hook);

 private:
  class Port;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace fedctl::talk
