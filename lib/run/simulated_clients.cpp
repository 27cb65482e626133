#include "run/simulated_clients.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <queue>

#include "run/client_memory.hpp"
#include "run/client_store.hpp"
#include "run/update_recorder.hpp"

namespace fedctl::run {
namespace {

namespace asio = boost::asio;
using talk::PeerId;

// Of a client's parts in a checkpoint; its number and the parts' names behind it.
const std::string kClient = "client/";
// The part that is the store's own.
constexpr const char* kStore = "clients";

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

// One simulated client: everything it owns.
struct Client {
  Client(const Stage& stage, PeerId id, talk::Endpoint& port)
      : method(stage.job.method().make_client(*stage.job.experiment.method.options, stage.plan)),
        endpoint(port, stage.job.client_codec(id)),
        context(stage.job.client_context(stage.plan, id, stage.learners)) {
    if (!stage.save_updates.empty()) {
      recorder.emplace(endpoint, id, stage.plan.layout, stage.save_updates);
    }
  }

  talk::Endpoint& net() { return recorder ? static_cast<talk::Endpoint&>(*recorder) : endpoint; }

  std::unique_ptr<methods::ClientMethod> method;
  talk::CodecEndpoint endpoint;
  std::optional<UpdateRecorder> recorder;
  methods::ClientContext context;
};

// The run is over behind the first question.
class OneQuestion final : public talk::Endpoint {
 public:
  explicit OneQuestion(talk::Endpoint& inner) : inner_(inner) {}
  std::vector<PeerId> peers() const override { return inner_.peers(); }
  TimePoint now() const override { return inner_.now(); }
  void spend(Duration modelled) override { inner_.spend(modelled); }
  talk::Task<void> send(PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override {
    return inner_.send(to, exchange, std::move(message));
  }
  talk::Task<void> send_seen(PeerId to, talk::ExchangeId exchange, talk::SharedMessage message,
                             Seen seen) override {
    return inner_.send_seen(to, exchange, std::move(message), std::move(seen));
  }
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override {
    if (asked_) co_return talk::Envelope{talk::kServer, 0, talk::Closed{}};
    std::optional<talk::Envelope> envelope = co_await inner_.receive(until);
    asked_ = envelope && std::holds_alternative<talk::Message>(envelope->event);
    co_return envelope;
  }

 private:
  talk::Endpoint& inner_;
  bool asked_ = false;
};

class Awake final : public SimulatedClients {
 public:
  explicit Awake(const Stage& stage) : stage_(stage) {
    for (PeerId id = 0; id < stage_.plan.clients; ++id) {
      seats_.emplace_back(asio::make_strand(stage_.pool));
      talk::Endpoint& port = stage_.mesh.attach(id, seats_.back());
      clients_.push_back(std::make_unique<Client>(stage_, id, port));
    }
  }

  void load(const Parts& parts) override {
    for (const auto& client : clients_) {
      const std::string prefix = prefix_of(*client);
      Parts own;
      for (auto at = parts.lower_bound(prefix); at != parts.end() && at->first.starts_with(prefix);
           ++at) {
        own.emplace(at->first.substr(prefix.size()), at->second);
      }
      load_client_parts(own, client->endpoint, *client->method);
    }
  }
  void save(Parts& parts) override {
    for (const auto& client : clients_) {
      for (auto& [name, part] : client_parts(client->endpoint, *client->method)) {
        parts.emplace(prefix_of(*client) + name, std::move(part));
      }
    }
  }
  void start() override {
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      Client& client = *clients_[i];
      asio::co_spawn(seats_[i], client.method->run(client.net(), client.context),
                     [this, id = client.context.id](std::exception_ptr failed) {
                       if (failed) {
                         stage_.error.keep(failed);
                         stage_.mesh.interrupt();
                       }
                       stage_.mesh.detach(id, failed ? "failed" : "done");
                     });
    }
  }

 private:
  static std::string prefix_of(const Client& client) {
    return kClient + std::to_string(client.context.id) + '/';
  }

  Stage stage_;
  std::vector<asio::any_io_executor> seats_;
  std::vector<std::unique_ptr<Client>> clients_;
};

class Asleep final : public SimulatedClients {
 public:
  explicit Asleep(const Stage& stage) : stage_(stage), store_(stage_.store) {}

  void load(const Parts& parts) override {
    if (const auto found = parts.find(kStore); found != parts.end()) store_.load(found->second);
  }
  void save(Parts& parts) override { parts.emplace(kStore, store_.save()); }
  void start() override {}

  // Those with the most examples go first, so that the workers end a round together.
  void wake(PeerId id) override {
    {
      const std::scoped_lock lock(mutex_);
      waiting_.emplace(stage_.job.shares[static_cast<std::size_t>(id)].train.size(), -id);
    }
    asio::post(stage_.pool, [this] { begin_next(); });
  }

 private:
  void begin_next() {
    PeerId id = 0;
    {
      const std::scoped_lock lock(mutex_);
      id = -waiting_.top().second;
      waiting_.pop();
    }
    asio::co_spawn(stage_.pool, live(this, id), [this, id](std::exception_ptr failed) {
      if (failed) {
        stage_.error.keep(failed);
        stage_.mesh.interrupt();
      }
      stage_.mesh.rest(id);
    });
  }

  static talk::Task<void> live(Asleep* self, PeerId id) {
    const Stage& stage = self->stage_;
    Client client(stage, id, stage.mesh.attach(id, stage.pool.get_executor()));
    load_client_parts(self->store_.get(id), client.endpoint, *client.method);
    OneQuestion question(client.net());
    co_await client.method->run(question, client.context);
    self->store_.put(id, client_parts(client.endpoint, *client.method));
  }

  Stage stage_;
  ClientStore store_;
  std::mutex mutex_;
  std::priority_queue<std::pair<std::size_t, PeerId>> waiting_;  // examples, minus the number
};

bool sleep(const Job& job) {
  return !job.plan.secure.on && !job.method().neighbours && job.make_client()->rests();
}

}  // namespace

SimulatedNetwork::SimulatedNetwork(const Options& options)
    : pool_(options.learners.count_max()), home_(asio::make_strand(pool_)) {
  const Job& job = options.job;
  talk::Mesh::Options links;
  for (PeerId id = 0; id < options.plan.clients; ++id) links.clients.push_back(id);
  links.link = [link = options.link](PeerId) { return link; };
  links.rng = job.rng().stream("network");
  links.ledger = &options.ledger;
  links.neighbours = job.neighbours(options.plan.clients);
  links.unpack = [this](talk::Envelope& envelope) {
    if (server_->unpacks_ahead()) server_->unpack(envelope);
  };
  const bool asleep = sleep(job);
  if (asleep) links.wake = [this](PeerId id) { clients_->wake(id); };
  mesh_.emplace(std::move(links));
  const Stage stage{job,   options.plan, options.learners,     *mesh_,
                    pool_, error_,       options.save_updates, options.store};
  if (asleep) {
    clients_ = std::make_unique<Asleep>(stage);
  } else {
    clients_ = std::make_unique<Awake>(stage);
  }
  server_.emplace(mesh_->attach(talk::kServer, home_), job.server_codec());
}

std::exception_ptr SimulatedNetwork::play(talk::Task<void> conversation) {
  clients_->start();
  asio::co_spawn(home_, std::move(conversation), [this](std::exception_ptr failed) {
    if (failed) error_.keep(failed);
    mesh_->detach(talk::kServer, "done");
  });
  pool_.join();
  return error_.get();
}

}  // namespace fedctl::run
