#include "run/trial.hpp"

#include <chrono>
#include <filesystem>
#include <utility>

#include "base/clock.hpp"
#include "run/client_memory.hpp"
#include "run/simulated_clients.hpp"

namespace fedctl::run {
namespace {

// Notes the bytes of every round.
struct Rounds final : methods::RoundSink {
  explicit Rounds(talk::Ledger& ledger_) : ledger(ledger_) {}
  bool commit(const methods::RoundReport& report, const methods::ServerMethod&) override {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> took = now - std::exchange(boundary, now);
    rounds.push_back(
        {talk::total(ledger.take()), report.peers.value_or(talk::Traffic{}), took.count()});
    return true;
  }
  std::chrono::steady_clock::time_point boundary = std::chrono::steady_clock::now();
  talk::Ledger& ledger;
  std::vector<TrialRound> rounds;
};

// Stands for the model where only the number of slopes matters: its losses are any numbers.
class Guesser final : public learn::Learner {
 public:
  explicit Guesser(const Layout& layout) : layout_(layout), weights_(layout.size()) {}
  const Layout& layout() const override { return layout_; }
  std::span<float> weights() override { return weights_; }
  std::span<float> gradient() override { return weights_; }
  double loss(const data::Batch&) override { return rng_.uniform_double(); }
  double loss_and_gradient(const data::Batch& batch) override { return loss(batch); }
  learn::Scores evaluate(const data::Batch& batch) override { return {loss(batch), 0, 1}; }
  Tensor logits(const data::Batch&) override { return {}; }
  learn::AdapterFiles adapter_files() override { return {}; }
  void load_adapter(const std::string&) override {}
  void save_merged(const std::string&, const std::map<std::string, std::string>&,
                   data::Storage) override {}
  std::string base_digest() const override { return ""; }
  std::size_t base_parameters() const override { return 0; }

 private:
  const Layout& layout_;
  std::vector<float> weights_;
  Rng rng_{1};
};

struct Guessers final : learn::LearnerFactory {
  explicit Guessers(const Layout& layout_) : layout(layout_) {}
  std::unique_ptr<learn::Learner> make() override { return std::make_unique<Guesser>(layout); }
  const Layout& layout;
};

}  // namespace

TrialFolder::TrialFolder(const std::filesystem::path& parent)
    : path_((parent / ("fedctl-plan-" + std::to_string(random_number()))).string()),
      new_parent_(std::filesystem::exists(parent) ? "" : parent.string()) {
  create_folder(path_);
}

TrialFolder::~TrialFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  if (!new_parent_.empty()) std::filesystem::remove(new_parent_, ignored);
}

std::unique_ptr<learn::LearnerPool> make_guessers(const Layout& layout) {
  return std::make_unique<learn::LearnerPool>(std::make_unique<Guessers>(layout), 1);
}

std::vector<TrialRound> trial(Job& job, const methods::JobPlan& plan,
                              learn::LearnerPool& learners) {
  talk::Ledger ledger;
  // Nothing is lost, but without rounds it matters who is faster.
  talk::Link link = job.experiment.network.link;
  link.loss = link.dropout = 0;
  // For what clients that sleep leave behind.
  const TrialFolder folder(std::filesystem::temp_directory_path());
  SimulatedNetwork network({job, plan, learners, link, ledger, "", folder.path()});

  std::vector<float> weights = job.plan.initial;
  const auto aggregator = job.make_aggregator();
  const auto method = job.method().make_server(*job.experiment.method.options, plan);
  journal::Journal journal("", {job.experiment.name, "server", std::nullopt}, wall_ms);
  Rounds sink(ledger);
  methods::Stragglers stragglers(false);
  methods::ServerContext context{plan,    weights, *aggregator, job.rng().stream("server"),
                                 journal, sink,    stragglers,  *job.learners,
                                 1};
  if (const auto error = network.play(method->run(network.server(), context))) {
    std::rethrow_exception(error);
  }
  return sink.rounds;
}

}  // namespace fedctl::run
