// Server and all clients in one process: the same conversations over the same frames, on virtual
// time.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>

#include "run/client_memory.hpp"
#include "run/commands.hpp"
#include "run/keeper.hpp"
#include "run/server_run.hpp"
#include "run/update_recorder.hpp"

namespace fedctl::run {
namespace {

namespace asio = boost::asio;
using talk::PeerId;

// One simulated client: everything it owns.
struct SimulatedClient {
  // save_updates: a folder, or "".
  SimulatedClient(Job& job, PeerId id, talk::Endpoint& port, const std::string& save_updates)
      : method(job.make_client()),
        endpoint(port, job.client_codec(id)),
        context(job.client_context(job.plan, id, *job.learners)) {
    if (!save_updates.empty()) recorder.emplace(endpoint, id, job.plan.layout, save_updates);
  }

  talk::Endpoint& net() { return recorder ? static_cast<talk::Endpoint&>(*recorder) : endpoint; }

  std::unique_ptr<methods::ClientMethod> method;
  talk::CodecEndpoint endpoint;
  std::optional<UpdateRecorder> recorder;
  methods::ClientContext context;
};

using Clients = std::vector<std::unique_ptr<SimulatedClient>>;

// Of a client's parts in a checkpoint; its number and the parts' names behind it.
const std::string kClient = "client/";

Parts parts_of(const talk::CodecEndpoint& server, const Clients& clients) {
  Parts parts;
  add_codec_parts(server, parts);
  for (const auto& client : clients) {
    const std::string prefix = kClient + std::to_string(client->context.id) + '/';
    for (auto& [name, part] : client_parts(client->endpoint, *client->method)) {
      parts.emplace(prefix + name, std::move(part));
    }
  }
  return parts;
}

void restore(const Parts& parts, talk::CodecEndpoint& server, const Clients& clients) {
  load_codec_parts(parts, server);
  for (const auto& client : clients) {
    const std::string prefix = kClient + std::to_string(client->context.id) + '/';
    Parts own;
    for (auto at = parts.lower_bound(prefix); at != parts.end() && at->first.starts_with(prefix);
         ++at) {
      own.emplace(at->first.substr(prefix.size()), at->second);
    }
    load_client_parts(own, client->endpoint, *client->method);
  }
}

}  // namespace

int simulate(const RunOptions& options) {
  ServerRun run(options, "simulate");
  Job& job = run.job();

  talk::Mesh::Options mesh_options;
  for (PeerId id = 0; id < job.plan.clients; ++id) mesh_options.clients.push_back(id);
  mesh_options.link = [link = job.experiment.network.link](PeerId) { return link; };
  mesh_options.rng = job.rng().stream("network");
  mesh_options.ledger = &run.ledger();
  mesh_options.neighbours = job.neighbours(job.plan.clients);
  const std::vector<PeerId> ids = mesh_options.clients;
  talk::Mesh mesh(std::move(mesh_options));

  if (!options.save_updates.empty()) {
    std::error_code failure;
    std::filesystem::create_directories(options.save_updates, failure);
    if (failure) {
      throw DataError(options.save_updates + ": cannot be made a folder: " + failure.message());
    }
  }

  asio::thread_pool pool(job.learners->count_max());
  Clients clients;
  std::vector<asio::any_io_executor> seats;
  for (const PeerId id : ids) {
    seats.emplace_back(asio::make_strand(pool));
    clients.push_back(std::make_unique<SimulatedClient>(job, id, mesh.attach(id, seats.back()),
                                                        options.save_updates));
  }
  const asio::any_io_executor home = asio::make_strand(pool);
  talk::CodecEndpoint server(mesh.attach(talk::kServer, home), job.server_codec());
  restore(run.keeper().parts(), server, clients);
  run.keeper().attach({[&] { return parts_of(server, clients); }, {}});
  run.on_interrupt([&mesh] { mesh.interrupt(); });

  FirstError error;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    asio::co_spawn(seats[i], clients[i]->method->run(clients[i]->net(), clients[i]->context),
                   [&mesh, &error, id = ids[i]](std::exception_ptr failed) {
                     if (failed) {
                       error.keep(failed);
                       mesh.interrupt();
                     }
                     mesh.detach(id, failed ? "failed" : "done");
                   });
  }
  asio::co_spawn(home, run.conversation(server), [&mesh, &error](std::exception_ptr failed) {
    if (failed) error.keep(failed);
    mesh.detach(talk::kServer, "done");
  });
  pool.join();
  return run.finish(error.get());
}

}  // namespace fedctl::run
