// Server and all clients in one process: the same conversations over the same frames, on virtual
// time.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>

#include "run/client_memory.hpp"
#include "run/commands.hpp"
#include "run/core_use.hpp"
#include "run/keeper.hpp"
#include "run/simulated_clients.hpp"

namespace fedctl::run {
namespace {

namespace asio = boost::asio;

void make_folder(const std::string& path) {
  if (path.empty()) return;
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (failure) throw DataError(path + ": cannot be made a folder: " + failure.message());
}

talk::Mesh::Options mesh_options(ServerRun& run) {
  const Job& job = run.job();
  talk::Mesh::Options options;
  for (talk::PeerId id = 0; id < job.plan.clients; ++id) options.clients.push_back(id);
  options.link = [link = job.experiment.network.link](talk::PeerId) { return link; };
  options.rng = job.rng().stream("network");
  options.ledger = &run.ledger();
  options.neighbours = job.neighbours(job.plan.clients);
  return options;
}

}  // namespace

int simulate(const RunOptions& options) {
  ServerRun run(options, "simulate");
  Job& job = run.job();
  make_folder(options.save_updates);
  const CoreUse cores = share_cores(job);
  if (cores.shared_step_ms > 0) {
    run.printer().notice(cores.text());
  } else {
    run.printer().detail(cores.text());
  }

  FirstError error;
  asio::thread_pool pool(job.learners->count_max());  // outlives all that has a seat in it
  std::unique_ptr<SimulatedClients> clients;
  std::optional<talk::CodecEndpoint> server;
  talk::Mesh::Options links = mesh_options(run);
  links.unpack = [&server](talk::Envelope& envelope) {
    if (server->unpacks_ahead()) server->unpack(envelope);
  };
  if (clients_sleep(job)) links.wake = [&clients](talk::PeerId id) { clients->wake(id); };
  talk::Mesh mesh(std::move(links));
  clients = make_simulated_clients({job, job.plan, *job.learners, mesh, pool, error,
                                    options.save_updates, run.directory().file("clients")});
  const asio::any_io_executor home = asio::make_strand(pool);
  server.emplace(mesh.attach(talk::kServer, home), job.server_codec());

  load_codec_parts(run.keeper().parts(), *server);
  clients->load(run.keeper().parts());
  run.keeper().attach({[&] {
                         Parts parts;
                         add_codec_parts(*server, parts);
                         clients->save(parts);
                         return parts;
                       },
                       {}});
  run.on_interrupt([&mesh] { mesh.interrupt(); });

  clients->start();
  asio::co_spawn(home, run.conversation(*server), [&mesh, &error](std::exception_ptr failed) {
    if (failed) error.keep(failed);
    mesh.detach(talk::kServer, "done");
  });
  pool.join();
  return run.finish(error.get());
}

}  // namespace fedctl::run
