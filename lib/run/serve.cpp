// Serves one experiment to remote clients.
#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "base/limits.hpp"
#include "net/address.hpp"
#include "net/server.hpp"
#include "run/client_memory.hpp"
#include "run/commands.hpp"
#include "run/durable_endpoint.hpp"
#include "run/open_files.hpp"
#include "run/seal.hpp"
#include "run/server_run.hpp"
#include "run/vouching.hpp"

namespace fedctl::run {
namespace {

constexpr const char* kSessions = "sessions";
constexpr const char* kOpen = "open";

// What the next process needs to know of the clients.
Parts parts_of(const DurableEndpoint& durable, const talk::CodecEndpoint& codecs) {
  Parts parts;
  parts.emplace(kSessions, talk::Message("sessions").with("rows", tensor_of(durable.sessions())));
  const std::map<talk::PeerId, std::int64_t> open = durable.open();
  if (!open.empty()) {
    parts.emplace(kOpen, talk::Message("open").with("rows", tensor_of(open)));
  }
  add_codec_parts(codecs, parts);
  return parts;
}

void restore(const Parts& parts, DurableEndpoint& durable, talk::CodecEndpoint& codecs) {
  if (const auto sessions = parts.find(kSessions); sessions != parts.end()) {
    durable.restore(pairs_of(sessions->second, "rows"));
  }
  if (const auto open = parts.find(kOpen); open != parts.end()) {
    durable.restore_open(pairs_of(open->second, "rows"));
  }
  load_codec_parts(parts, codecs);
}

}  // namespace

int serve(const RunOptions& options) {
  std::size_t connections_max = 0;
  {
    // Before any file is touched.
    const Experiment experiment = read_experiment(options.source);
    const net::Address address = net::parse_address(experiment.server.listen, "server.listen");
    if (experiment.server.tls.files.empty() && !net::is_loopback(address.host) &&
        !options.insecure) {
      throw ConfigError("server.listen is " + experiment.server.listen +
                            ", which is not a loopback address, and server.tls is not set",
                        "fedctl ca makes certificates; --insecure, here and at every client, "
                        "allows plaintext");
    }
    connections_max =
        allow_connections(static_cast<std::size_t>(experiment.cohort()), "clients.per_round");
  }
  boost::asio::io_context work(1);
  ServerRun run(options, "server");
  Job& job = run.job();
  const net::Address address = net::parse_address(job.experiment.server.listen, "server.listen");

  net::TcpServer::Options server_options;
  server_options.host = address.host;
  server_options.port = address.port;
  server_options.clients = job.plan.clients;
  server_options.idle_s = job.experiment.server.idle_s;
  server_options.frame_bytes_max = frame_bytes_max(job.plan.layout.size(), limits::kAnswerSlack);
  server_options.connections_max = connections_max;
  server_options.plan = plan_text(job.experiment);
  server_options.tls =
      net::Credentials::read(job.experiment.server.tls.files, net::TlsRole::server, "server.tls");
  server_options.notice = [&run](const std::string& text) { run.printer().notice(text); };
  server_options.run = run.keeper().run_number();
  server_options.scratch = Scratch::in(run.directory().path());
  server_options.admit = [&job](const talk::Message& ready, bool known) {
    job.digests.require_equal(ready, known);
  };
  server_options.neighbours = job.neighbours(job.plan.clients);
  net::TcpServer server(std::move(server_options), work.get_executor(), run.ledger(),
                        run.journal());
  const std::string place = address.host + ':' + std::to_string(server.port());
  run.printer().notice("listening on " + place + ", waiting for " +
                       std::to_string(job.plan.clients) + " clients");
  if (!options.port_file.empty()) {
    const std::string text = std::to_string(server.port()) + '\n';
    write_atomically(options.port_file, as_bytes_of(std::string_view(text)));
  }
  if (const net::TlsFiles& files = job.experiment.server.tls.files; !files.empty()) {
    run.on_end([&run, &files] { seal(run.directory().path(), files); });
  }
  run.vouch(vouching_by(net::Voucher::read(job.experiment.server.tls.files, "server.tls"),
                        [&run] { return run.keeper().run_number(); }));
  run.on_interrupt([&server] { server.interrupt(); });

  DurableEndpoint durable(server, run.ledger(),
                          {.folder = run.directory().file("spool"),
                           .sync_always = job.experiment.server.durability == "always",
                           .grace = seconds(job.experiment.server.idle_s),
                           .rounds = job.method().rounds});
  talk::CodecEndpoint endpoint(durable, job.server_codec());
  restore(run.keeper().parts(), durable, endpoint);
  run.keeper().attach({[&] { return parts_of(durable, endpoint); },
                       [&](std::int64_t next_round, std::int64_t attempt) {
                         durable.begin(next_round, attempt);
                       },
                       [&] { durable.end(); }});
  durable.begin(run.keeper().round() + 1, run.keeper().attempt());
  run.resume_after(durable.endings());
  std::exception_ptr error;
  boost::asio::co_spawn(work, run.conversation(endpoint),
                        [&error](std::exception_ptr failed) { error = failed; });
  work.run();
  if (const std::exception_ptr failure = server.failure()) error = failure;
  const std::string how = run.status(error);
  server.finish(how);
  return run.finish(how, error);
}

}  // namespace fedctl::run
