// Server and all clients in one process: the same conversations over the same frames, on virtual
// time.
#include <filesystem>

#include "run/client_memory.hpp"
#include "run/commands.hpp"
#include "run/core_use.hpp"
#include "run/greeting.hpp"
#include "run/keeper.hpp"
#include "run/simulated_clients.hpp"

namespace fedctl::run {
namespace {

void make_folder(const std::string& path) {
  if (path.empty()) return;
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (failure) throw DataError(path + ": cannot be made a folder: " + failure.message());
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

  SimulatedNetwork network({job, job.plan, *job.learners, job.experiment.network.link, run.ledger(),
                            options.save_updates, run.directory().file("clients")});
  load_codec_parts(run.keeper().parts(), network.server());
  network.clients().load(run.keeper().parts());
  run.keeper().attach({[&] {
                         Parts parts;
                         add_codec_parts(network.server(), parts);
                         network.clients().save(parts);
                         return parts;
                       },
                       {}});
  run.on_interrupt([&network] { network.interrupt(); });
  // As over TCP, where bytes before the first round count in it: once, also in a run that goes on.
  if (run.keeper().round() == 0) {
    count_for_all(job, handshake_of(job, options.version), run.ledger());
  }
  const std::exception_ptr error = network.play(run.conversation(network.server()));
  const std::string how = run.status(error);
  count_for_all(job, farewell_of(how), run.ledger());
  return run.finish(how, error);
}

}  // namespace fedctl::run
