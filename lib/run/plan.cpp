// `fedctl plan`: the dry run.
#include "run/plan.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "base/clock.hpp"
#include "run/commands.hpp"
#include "run/server_run.hpp"

namespace fedctl::run {
namespace {

namespace asio = boost::asio;
using talk::PeerId;

// Where messages differ in size from client to client, their mean counts.
constexpr std::int64_t kTrialClients = 4;
constexpr std::size_t kClassesMax = 30, kClientsMax = 50;
constexpr std::size_t kCopiesPerWorker = 3;  // weights, gradient, update

// Ends the method after its first round.
struct OneRound final : methods::RoundSink {
  bool commit(const methods::RoundReport&, const methods::ServerMethod&) override { return false; }
};

struct TrialClient {
  TrialClient(const Job& job, const methods::JobPlan& plan, PeerId id, talk::Endpoint& port)
      : method(job.method().make_client(*job.experiment.method.options, plan)),
        endpoint(port, job.client_codec(id)),
        context(job.client_context(plan, id)) {}
  std::unique_ptr<methods::ClientMethod> method;
  talk::CodecEndpoint endpoint;
  methods::ClientContext context;
};

// One round among the first clients, over the frames of a simulation.
talk::Crossing trial(Job& job, const methods::JobPlan& plan) {
  talk::Ledger ledger;
  talk::Mesh::Options options;
  for (PeerId id = 0; id < plan.clients; ++id) options.clients.push_back(id);
  options.link = [](PeerId) { return talk::Link{}; };
  options.rng = job.rng().stream("network");
  options.ledger = &ledger;
  const std::vector<PeerId> ids = options.clients;
  talk::Mesh mesh(std::move(options));

  asio::thread_pool pool(1);
  std::vector<std::unique_ptr<TrialClient>> clients;
  std::vector<asio::any_io_executor> seats;
  for (const PeerId id : ids) {
    seats.emplace_back(asio::make_strand(pool));
    clients.push_back(std::make_unique<TrialClient>(job, plan, id, mesh.attach(id, seats.back())));
  }
  const asio::any_io_executor home = asio::make_strand(pool);
  talk::CodecEndpoint server(mesh.attach(talk::kServer, home), job.server_codec());

  std::vector<float> weights = job.plan.initial;
  const auto aggregator = job.make_aggregator();
  const auto method = job.method().make_server(*job.experiment.method.options, plan);
  journal::Journal journal("", {job.experiment.name, "server", std::nullopt}, wall_ms);
  OneRound sink;
  methods::Stragglers stragglers(false);
  methods::ServerContext context{plan,    weights, *aggregator, job.rng().stream("server"),
                                 journal, sink,    stragglers,  *job.learners,
                                 1};
  FirstError error;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    asio::co_spawn(seats[i], clients[i]->method->run(clients[i]->endpoint, clients[i]->context),
                   [&mesh, &error, id = ids[i]](std::exception_ptr failed) {
                     if (failed) {
                       error.keep(failed);
                       mesh.interrupt();
                     }
                     mesh.detach(id, failed ? "failed" : "done");
                   });
  }
  asio::co_spawn(home, method->run(server, context), [&mesh, &error](std::exception_ptr failed) {
    if (failed) error.keep(failed);
    mesh.detach(talk::kServer, "done");
  });
  pool.join();
  if (error.get()) std::rethrow_exception(error.get());
  return talk::total(ledger.take());
}

// Of the process, now.
std::uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t whole = 0, resident = 0;
  in >> whole >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// The second of two, so that no memory is touched for the first time.
double step_time_ms(Job& job) {
  learn::TrainOptions one = job.plan.train;
  one.steps = 1;
  learn::LearnerPool::Lease learner = job.learners->acquire();
  double ms = 0;
  for (int turn = 0; turn < 2; ++turn) {
    std::ranges::copy(job.plan.initial, learner->weights().begin());
    const auto start = std::chrono::steady_clock::now();
    learn::train(*learner, *job.data.train, job.shares[0].train, one, {},
                 job.rng().stream("plan", turn));
    ms = to_ms(std::chrono::steady_clock::now() - start);
  }
  return ms;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.flush();
  if (!out) throw DataError(path + ": cannot be written", "check the folder and its permissions");
}

}  // namespace

std::vector<std::size_t> Histogram::totals() const {
  std::vector<std::size_t> totals;
  for (const auto& row : counts) {
    std::size_t sum = 0;
    for (const std::size_t count : row) sum += count;
    totals.push_back(sum);
  }
  return totals;
}

bool Histogram::large() const { return columns() > kClassesMax || counts.size() > kClientsMax; }

Histogram histogram_of(const Job& job) {
  const data::Dataset& train = *job.data.train;
  Histogram histogram;
  histogram.classes = train.info().classes;
  const std::size_t columns = std::max<std::size_t>(1, histogram.classes.size());
  for (const data::Share& share : job.shares) {
    std::vector<std::size_t>& row = histogram.counts.emplace_back(columns);
    for (const std::size_t index : share.train) {
      ++row[histogram.classes.empty() ? 0 : static_cast<std::size_t>(train.label(index))];
    }
  }
  return histogram;
}

std::uint64_t Forecast::peak_memory() const {
  return resident + kCopiesPerWorker * sizeof(float) * trainable * workers;
}

double Forecast::transfer_s() const {
  const auto one_way = [this](double bytes, double mbit) {
    return latency_ms * 1e-3 + (mbit > 0 ? bytes * 8e-6 / mbit : 0);
  };
  return one_way(down(), down_mbit) + one_way(up(), up_mbit);
}

double Forecast::train_s() const { return static_cast<double>(steps) * step_ms * 1e-3; }

Forecast forecast(Job& job, std::size_t workers) {
  Forecast found;
  found.resident = resident_bytes();
  found.workers = workers;
  found.rounds = job.plan.rounds;
  found.clients = job.plan.clients;
  found.cohort = job.plan.per_round;
  found.test_examples = job.test_indices().size();
  found.trainable = job.plan.layout.size();
  found.base = job.learners->acquire()->base_parameters();
  found.histogram = histogram_of(job);
  for (const std::size_t examples : found.histogram.totals())
    found.steps = std::max(found.steps, learn::steps_of(job.plan.train, examples));
  found.step_ms = step_time_ms(job);

  methods::JobPlan plan = job.plan;
  plan.rounds = 1;
  plan.clients = plan.per_round = std::min(kTrialClients, job.plan.per_round);
  plan.quorum = 1;
  // Where an update is a vector its size is that of the layout; a number a step is not.
  const std::string& payload = job.method().payload;
  if (payload == "linear" || payload == "needs_each_update") plan.train.steps = 1;
  const talk::Crossing bytes = trial(job, plan);
  const auto each = static_cast<double>(plan.clients);
  found.payload_up = static_cast<double>(bytes.up.payload) / each;
  found.framing_up = static_cast<double>(bytes.up.framing) / each;
  found.payload_down = static_cast<double>(bytes.down.payload) / each;
  found.framing_down = static_cast<double>(bytes.down.framing) / each;
  return found;
}

int plan(const PlanOptions& options) {
  for (const auto& [name, value] :
       {std::pair("--up-mbit", options.up_mbit), std::pair("--down-mbit", options.down_mbit),
        std::pair("--latency-ms", options.latency_ms)}) {
    if (!std::isfinite(value) || value < 0) {
      throw ConfigError(std::string(name) + " is " + std::to_string(value) + ", must be 0 or more",
                        "0 Mbit/s stands for an unlimited link");
    }
  }
  const std::size_t workers = thread_count(options.threads);
  Job job = make_job(read_experiment(options.source), 1);
  // Before anything is measured: a path that cannot be written costs no time.
  if (!options.write_partition.empty()) {
    write_file(options.write_partition, partition_text(job.shares, job.data.train->size(),
                                                       options.write_partition.ends_with(".json")));
  }
  Forecast found = forecast(job, workers);
  found.up_mbit = options.up_mbit;
  found.down_mbit = options.down_mbit;
  found.latency_ms = options.latency_ms;
  if (!options.svg.empty())
    write_file(options.svg, histogram_svg(found.histogram, job.experiment.name));
  const std::string text = options.output.format == Format::json
                               ? forecast_json(found, job.experiment)
                               : forecast_text(found, job.experiment);
  std::fputs(text.c_str(), stdout);
  return kDone;
}

}  // namespace fedctl::run
