// Takes part in an experiment as one client or many.
#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>
#include <mutex>
#include <optional>

#include "base/limits.hpp"
#include "learn/processor.hpp"
#include "net/client.hpp"
#include "run/client_memory.hpp"
#include "run/commands.hpp"
#include "run/job.hpp"
#include "run/open_files.hpp"
#include "run/signals.hpp"
#include "run/site.hpp"
#include "run/site_paths.hpp"
#include "run/vouching.hpp"

namespace fedctl::run {
namespace {

namespace asio = boost::asio;

// How long a signal waits for a training or a loading that is under way. Its end at any instant
// loses nothing: what counts is written whole or not at all (docs/durability.md).
constexpr std::chrono::seconds kStopGrace{2};

// The job, built from the plan by whichever client gets it first; the others must get the same
// plan.
class SharedJob {
 public:
  SharedJob(SiteOptions site, AllowedPaths allowed, const ClientOptions& options, Printer& printer)
      : site_(std::move(site)),
        allowed_(std::move(allowed)),
        ids_(options.ids),
        threads_(options.threads > 0 ? options.threads : site_.threads),
        printer_(printer) {}

  net::TcpClient::PlanFacts facts(talk::PeerId id) {
    const std::scoped_lock lock(mutex_);
    net::TcpClient::PlanFacts facts;
    facts.rounds = job_->plan.rounds;
    facts.question_bytes_max = frame_bytes_max(job_->plan.layout.size(), limits::kQuestionSlack);
    if (const auto neighbours = job_->neighbours(job_->plan.clients)) {
      facts.has_neighbours = true;
      facts.neighbours = neighbours(id);
    }
    return facts;
  }
  talk::Message prepare(const std::string& plan) {
    const std::scoped_lock lock(mutex_);
    if (!job_) {
      build(plan);
      plan_ = plan;
    } else if (plan != plan_ && digest_of(plan) != job_->digests.plan) {
      throw ProtocolError("the server's plan has changed since this client started",
                          "restart the client");
    }
    return job_->digests.message();
  }
  Job& job() { return *job_; }

 private:
  static config::Source source_of(const std::string& plan) {
    return {plan, "plan from the server", {}};
  }
  static std::string digest_of(const std::string& plan) {
    Experiment experiment = read_experiment(source_of(plan));
    return plan_digest(experiment);
  }
  void build(const std::string& plan) {
    Experiment experiment = read_experiment(source_of(plan));
    site_.policy.require(experiment);
    const std::string digest = plan_digest(experiment);
    Job job = open(std::move(experiment));
    for (const std::int64_t id : ids_) {
      if (id >= job.plan.clients) continue;  // the server refuses it
      const auto& share = job.shares[static_cast<std::size_t>(id)];
      site_.policy.require_steps(job.plan.train, share.train.size());
    }
    job.digests.plan = digest;
    const std::string slow = learn::slow_here(job.experiment.model);
    if (!slow.empty()) printer_.notice("warning: " + slow);
    job_ = std::move(job);
  }
  // What is wrong with a file, or that it is not there, is this machine's own affair.
  Job open(Experiment experiment) const {
    try {
      use_site_files(site_, allowed_, experiment);
      return make_job(std::move(experiment), thread_count(threads_),
                      {.own_data = !site_.data.path.empty()});
    } catch (const Error&) {
      throw net::Declined{kUnfit, std::current_exception()};
    }
  }

  static constexpr const char* kUnfit =
      "this client's data or model cannot be used for the plan; its own messages say why";

  SiteOptions site_;
  AllowedPaths allowed_;
  std::vector<std::int64_t> ids_;
  std::int64_t threads_;
  Printer& printer_;
  std::mutex mutex_;
  std::string plan_;
  std::optional<Job> job_;
};

// One hosted client.
class Guest {
 public:
  Guest(SharedJob& shared, net::TcpClient::Options options, net::ClientLoop& loop,
        asio::any_io_executor seat, const std::string& state_dir, Printer& printer,
        std::shared_ptr<net::Voucher> voucher)
      : shared_(shared),
        id_(options.id),
        seat_(seat),
        memory_(state_dir, options.id),
        printer_(printer),
        tcp_(with_memory(std::move(options)), loop, seat),
        vouching_(vouching_by(std::move(voucher), [this] { return memory_.run(); })) {
    memory_.count_bytes([this] { return tcp_.bytes_spent(); });
  }

  void start() {
    tcp_.start();
    asio::co_spawn(seat_, converse(this), [this](std::exception_ptr failed) {
      if (failed) error_ = failed;
    });
  }
  void stop() { tcp_.stop(); }
  // How the run has ended, as the server says; "" if it does not.
  std::string end_status() const { return tcp_.end_status().value_or(""); }
  std::exception_ptr error() const { return error_ ? error_ : tcp_.failure(); }

 private:
  net::TcpClient::Options with_memory(net::TcpClient::Options options) {
    options.bytes_spent = memory_.bytes_spent();
    options.prepare = [this](const std::string& plan, std::int64_t run) {
      return shared_.prepare(plan).with("session", memory_.session(run));
    };
    return options;
  }

  static talk::Task<void> converse(Guest* self) {
    // Until the server has sent the plan there is nothing to build a method from.
    const std::optional<talk::Envelope> first = co_await self->tcp_.receive(kForever);
    if (!std::holds_alternative<talk::Joined>(first->event)) co_return;
    Job& job = self->shared_.job();
    methods::ClientContext context = job.client_context(job.plan, self->id_, *job.learners);
    context.vouching = self->vouching_;
    const std::unique_ptr<methods::ClientMethod> method = job.make_client();
    talk::CodecEndpoint* codecs = nullptr;
    OnceEndpoint once(
        self->tcp_, self->memory_,
        [&codecs, raw = method.get()] { return client_parts(*codecs, *raw); },
        [self](talk::ExchangeId round, bool again) {
          self->printer_.detail("client " + std::to_string(self->id_) + ": round " +
                                std::to_string(round) +
                                (again ? ", again: the stored answer" : ""));
        });
    talk::CodecEndpoint endpoint(once, job.client_codec(self->id_));
    codecs = &endpoint;
    try {
      load_client_parts(self->memory_.parts(), endpoint, *method);
      co_await method->run(endpoint, context);
    } catch (...) {
      self->error_ = std::current_exception();
    }
    if (self->error_) self->tcp_.stop();
  }

  SharedJob& shared_;
  talk::PeerId id_;
  asio::any_io_executor seat_;
  ClientMemory memory_;
  Printer& printer_;
  net::TcpClient tcp_;
  methods::Vouching vouching_;
  std::exception_ptr error_;
};

}  // namespace

int join(const ClientOptions& options) {
  const SiteOptions site = read_site(options.site);
  const net::Address address = net::parse_address(options.server, "--server");
  const std::shared_ptr<net::Credentials> tls =
      net::Credentials::read(site.tls.files, net::TlsRole::client, "tls");
  if (!tls && !site.policy.plaintext) {
    throw ProtocolError("policy.plaintext: false, and the site file has no tls");
  }
  if (!tls && !net::is_loopback(address.host) && !options.insecure) {
    throw ConfigError("--server is " + options.server +
                          ", which is not a loopback address, and the site file has no tls",
                      "fedctl ca issue writes one; --insecure, here and at the server, allows "
                      "plaintext");
  }
  allow_connections(options.ids.size(), "--ids");
  Printer printer(options.output.format, options.output.quiet, options.output.verbose);
  const std::int64_t threads = options.threads > 0 ? options.threads : site.threads;
  std::vector<std::string> allowed = site.policy.paths;
  allowed.insert(allowed.end(), options.allowed_paths.begin(), options.allowed_paths.end());
  SharedJob shared(site, AllowedPaths(allowed), options, printer);
  asio::thread_pool pool(thread_count(threads));
  net::ClientLoop loop;
  const std::shared_ptr<net::Voucher> voucher = net::Voucher::read(site.tls.files, "tls");
  std::vector<std::unique_ptr<Guest>> guests;
  for (const std::int64_t id : options.ids) {
    net::TcpClient::Options guest;
    guest.server = address;
    guest.id = id;
    guest.version = options.version;
    guest.tls = tls;
    guest.greet = net::Credentials::read(site.tls.files, net::TlsRole::server, "tls");
    guest.call = net::Credentials::read(site.tls.files, net::TlsRole::caller, "tls");
    guest.facts = [&shared, id] { return shared.facts(id); };
    guest.round_bytes_max = static_cast<std::uint64_t>(site.policy.max_bytes_per_round);
    guest.total_bytes_max = static_cast<std::uint64_t>(site.policy.max_bytes);
    if (options.retry_s > 0) guest.first_retry_s = guest.later_retry_s = options.retry_s;
    guest.notice = [&printer](const std::string& text) { printer.notice(text); };
    guests.push_back(std::make_unique<Guest>(shared, std::move(guest), loop,
                                             asio::make_strand(pool), options.state_dir, printer,
                                             voucher));
  }
  const Signals signals(
      [&] {
        printer.notice("stopping (press again to end at once)");
        for (const auto& guest : guests) guest->stop();
      },
      kStopGrace);
  for (const auto& guest : guests) guest->start();
  pool.join();
  if (signals.caught() != 0) return 128 + signals.caught();
  for (const auto& guest : guests) {
    if (const std::exception_ptr error = guest->error()) std::rethrow_exception(error);
  }
  const auto ended = [&guests](const char* how) {
    return std::ranges::any_of(guests,
                               [how](const auto& guest) { return guest->end_status() == how; });
  };
  if (ended("failed")) {
    printer.notice("the run failed at the server, which says why");
    return kFailed;
  }
  if (ended("quorum")) {
    printer.notice("the run ended at the server: too few clients answered");
    return kShortfall;
  }
  return kDone;
}

}  // namespace fedctl::run
