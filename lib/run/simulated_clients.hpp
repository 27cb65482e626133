// The clients of a simulation. Those whose method rests between questions
// (methods::ClientMethod::rests) sleep in a file and exist only while they answer one, so a hundred
// thousand cost what a round's cohort costs; the others are there all the time.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "run/job.hpp"
#include "run/run_directory.hpp"
#include "run/server_run.hpp"
#include "talk/mesh.hpp"

namespace fedctl::run {

class SimulatedClients {
 public:
  virtual ~SimulatedClients() = default;
  // From the parts of a checkpoint, before start(); and among them.
  virtual void load(const Parts& parts) = 0;
  virtual void save(Parts& parts) = 0;
  virtual void start() = 0;
  // talk::Mesh::Options::wake.
  virtual void wake(talk::PeerId) {}
};

// Server and clients of a job on a mesh, and the workers they share.
class SimulatedNetwork {
 public:
  struct Options {
    const Job& job;
    const methods::JobPlan& plan;  // the job's, or a shorter one
    learn::LearnerPool& learners;  // of the clients; as many workers
    talk::Link link;
    talk::Ledger& ledger;
    std::string save_updates;  // folder for what clients send, or ""
    std::string store;         // folder for clients that sleep
  };
  explicit SimulatedNetwork(const Options& options);

  talk::CodecEndpoint& server() { return *server_; }
  SimulatedClients& clients() { return *clients_; }
  // From any thread: the server sees Closed.
  void interrupt() { mesh_->interrupt(); }
  // Runs the clients and the server's conversation to their ends; what failed first, or null.
  std::exception_ptr play(talk::Task<void> conversation);

 private:
  FirstError error_;
  boost::asio::thread_pool pool_;  // outlives all that has a seat in it
  boost::asio::any_io_executor home_;
  std::unique_ptr<SimulatedClients> clients_;
  std::optional<talk::CodecEndpoint> server_;
  std::optional<talk::Mesh> mesh_;
};

}  // namespace fedctl::run
