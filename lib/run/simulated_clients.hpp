// The clients of a simulation. Those whose method rests between questions
// (methods::ClientMethod::rests) sleep in a file and exist only while they answer one, so a hundred
// thousand cost what a round's cohort costs; the others are there all the time.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>
#include <vector>

#include "run/job.hpp"
#include "run/run_directory.hpp"
#include "run/server_run.hpp"
#include "talk/mesh.hpp"

namespace fedctl::run {

// All of it outlives the clients.
struct Stage {
  const Job& job;
  const methods::JobPlan& plan;  // the job's, or a shorter one
  learn::LearnerPool& learners;  // of the clients
  talk::Mesh& mesh;
  boost::asio::thread_pool& pool;
  FirstError& error;         // what a client fails with
  std::string save_updates;  // folder for what clients send, or ""
  std::string store;         // folder for those that sleep
};

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

// Whether they sleep; the mesh's options must say so, too.
bool clients_sleep(const Job& job);
std::unique_ptr<SimulatedClients> make_simulated_clients(const Stage& stage);

}  // namespace fedctl::run
