#include "run/job.hpp"

#include <numeric>
#include <thread>

#include "base/digest.hpp"
#include "codec/error_feedback.hpp"
#include "run/describe.hpp"
#include "run/quality.hpp"
#include "run/spread.hpp"
#include "secure/masks.hpp"

namespace fedctl::run {
namespace {

std::string codec_digest(const Experiment& experiment) {
  CodecOptions codec = experiment.codec;
  return digest_of(as_bytes_of(config::write(codec)));
}

methods::SecurePlan secure_of(const Experiment& experiment) {
  const SecureOptions& options = experiment.privacy.secure_aggregation;
  methods::SecurePlan plan;
  plan.on = options.kind != "none";
  plan.clip = options.clip;
  plan.levels = options.levels;
  plan.ratio = options.ratio;
  plan.rotate = options.rotate;
  plan.examples_max = options.examples_max;
  constexpr std::int64_t kComplete = 30;  // below it everyone is everyone's neighbour
  if (options.kind == "secagg_plus" && experiment.cohort() >= kComplete) {
    const secure::Sparsity sparse = secure::sparsity(static_cast<std::size_t>(experiment.cohort()),
                                                     options.corrupt, options.dropout);
    plan.few = sparse.neighbours;
    plan.few_threshold = sparse.threshold;
  }
  return plan;
}

methods::JobPlan plan_of(const Experiment& experiment, Layout layout, std::vector<float> initial) {
  methods::JobPlan plan;
  plan.initial = std::move(initial);
  plan.rounds = experiment.rounds;
  plan.clients = experiment.clients.count;
  plan.per_round = experiment.cohort();
  plan.quorum = experiment.clients.quorum;
  plan.deadline_s = experiment.clients.deadline_s;
  plan.wait_s = experiment.clients.wait_s;
  if (experiment.clients.on_quorum == "end") plan.attempts_max = 1;
  plan.train = experiment.train;
  plan.layout = std::move(layout);
  plan.secure = secure_of(experiment);
  plan.step_ms = experiment.network.step_ms;
  plan.slow_share = experiment.network.slow_share;
  plan.slow_factor = experiment.network.slow_factor;
  plan.evaluation = {experiment.evaluate.on != "server", experiment.evaluate.every,
                     experiment.evaluate.batch_size};
  if (experiment.server.max_update_norm > 0) plan.norm_max = experiment.server.max_update_norm;
  if (experiment.server.max_examples > 0) plan.examples_max = experiment.server.max_examples;
  plan.digests = experiment.log.clients;
  return plan;
}

// What clients may claim, where server.max_examples does not say.
void bound_examples(const Job& job, bool remote, methods::JobPlan& plan) {
  if (job.experiment.server.max_examples > 0) return;
  if (remote && sites_may_have_data(job.experiment)) {
    plan.examples_max = static_cast<std::int64_t>(job.data.train->size());
    return;
  }
  for (const data::Share& share : job.shares) {
    plan.dealt.push_back(static_cast<std::int64_t>(share.train.size()));
  }
}

// `start`: what a vector of that many values is known to be before the first message.
talk::CodecEndpoint::Maker maker(const std::vector<config::Plugin>& chain,
                                 const std::string& error_feedback,
                                 std::span<const float> start = {}) {
  return [chain, error_feedback, start](codec::Blocks blocks) {
    std::unique_ptr<codec::Codec> made = codec::make_chain(chain, error_feedback, blocks);
    const std::size_t count = std::accumulate(blocks.begin(), blocks.end(), std::size_t{0});
    if (made && count == start.size()) made->start_from(start);
    return made;
  };
}

// The receiver's part of it.
std::string at_receiver(const std::string& error_feedback) {
  const codec::ErrorFeedbackEntry* entry = codec::error_feedback(error_feedback);
  return entry != nullptr && entry->both_sides ? error_feedback : "none";
}

}  // namespace

talk::Message Digests::message() const {
  return talk::Message("ready")
      .with("plan", plan)
      .with("layout", layout)
      .with("base", base)
      .with("vocabulary", vocabulary)
      .with("codec", codec);
}

void Digests::require_equal(const talk::Message& ready, bool in_full) const {
  constexpr std::size_t kShort = 8;  // enough to tell two apart
  const wire::Expect theirs(ready, "ready");
  const auto shown = [&](const std::string& digest) {
    return in_full ? digest : digest.substr(0, kShort);
  };
  const auto compare = [&](const char* name, const char* what, const std::string& ours) {
    const std::string other = theirs.words(name);
    if (other != ours) {
      throw ProtocolError(std::string(what) + " differs: the client has " + shown(other) +
                          ", the server " + shown(ours));
    }
  };
  compare("plan", "plan", plan);
  compare("codec", "codec chain", codec);
  compare("vocabulary", "tokenizer", vocabulary);
  compare("layout", "parameter layout", layout);
  compare("base", "base model", base);
}

std::size_t frame_bytes_max(std::size_t parameters, std::size_t slack) {
  return std::min(limits::kFrameBytesMax, slack + limits::kBytesPerParameter * parameters);
}

const data::Dataset& Job::test_set() const {
  return data.test->size() > 0 ? *data.test : *data.train;
}

std::vector<std::size_t> Job::test_indices() const {
  std::vector<std::size_t> indices;
  if (data.test->size() > 0) {
    indices.resize(data.test->size());
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = i;
  } else {
    for (const data::Share& share : shares) {
      indices.insert(indices.end(), share.holdout.begin(), share.holdout.end());
    }
  }
  return indices;
}

std::unique_ptr<methods::ServerMethod> Job::make_server() const {
  return method().make_server(*experiment.method.options, plan);
}

std::unique_ptr<methods::ClientMethod> Job::make_client() const {
  return method().make_client(*experiment.method.options, plan);
}

std::function<std::vector<talk::PeerId>(talk::PeerId)> Job::neighbours(std::int64_t clients) const {
  if (!method().neighbours) return {};
  return [this, clients](talk::PeerId id) {
    return method().neighbours(*experiment.method.options, clients, id);
  };
}

methods::ClientContext Job::client_context(const methods::JobPlan& client_plan, talk::PeerId id,
                                           learn::LearnerPool& client_learners) const {
  const data::Share& share = shares[static_cast<std::size_t>(id)];
  return {client_plan,  id, client_learners, *data.train, share.train, rng().stream("client", id),
          share.holdout};
}

std::unique_ptr<aggregate::Aggregator> Job::make_aggregator() const {
  const config::Plugin& chosen = experiment.aggregate;
  for (const aggregate::AggregatorEntry& entry : aggregate::aggregators()) {
    if (entry.kind.name == chosen.kind) return entry.make(*chosen.options);
  }
  throw ConfigError("no aggregator \"" + chosen.kind + '"', "fedctl list aggregators");
}

talk::CodecEndpoint::Options Job::server_codec() const {
  const CodecOptions& codec = experiment.codec;
  const std::string feedback = at_receiver(codec.error_feedback);
  talk::CodecEndpoint::Options options;
  options.out = maker(codec.down, codec.error_feedback_down, plan.initial);
  options.out_has_state = codec.error_feedback_down != "none";
  options.in = maker(codec.up, feedback);
  options.in_has_state = feedback != "none";
  options.layout = plan.layout;
  options.rng = rng().stream("codec", talk::kServer);
  return options;
}

talk::CodecEndpoint::Options Job::client_codec(talk::PeerId id) const {
  const CodecOptions& codec = experiment.codec;
  const std::string feedback = at_receiver(codec.error_feedback_down);
  talk::CodecEndpoint::Options options;
  options.out = maker(codec.up, codec.error_feedback);
  options.out_has_state = codec.error_feedback != "none";
  options.in = maker(codec.down, feedback, plan.initial);
  options.in_has_state = feedback != "none";
  options.neighbours = static_cast<bool>(method().neighbours);
  options.layout = plan.layout;
  options.rng = rng().stream("codec", id);
  return options;
}

Job make_job(Experiment experiment, std::size_t threads, const JobUse& use) {
  Job job;
  const Rng root(static_cast<std::uint64_t>(experiment.seed));
  const auto& dealing = experiment.data.as<DataOptions>();
  job.data = data::dataset(experiment.data.kind).open(*dealing.dataset, root.stream("data"));
  check_evaluate(experiment.evaluate, *job.data.train);
  const auto count = static_cast<std::size_t>(experiment.clients.count);
  if (use.own_data) {
    const config::Plugin whole = config::make_plugin(data::partitioner_kinds(), "iid");
    job.shares.assign(count, data::partition(whole, *job.data.train, 1, dealing.holdout,
                                             root.stream("partition"))[0]);
  } else {
    job.shares =
        data::deal(dealing.partition, job.data, count, dealing.holdout, root.stream("partition"));
  }

  learn::LearnerSpec spec{experiment.model, experiment.adapter, job.data.train->info(),
                          root.stream("init")};
  const bool described = !use.server_folder.empty() && experiment.evaluate.on == "clients" &&
                         learn::family(experiment.model.kind).needs_torch;
  job.learners = std::make_unique<learn::LearnerPool>(
      described ? learn::make_late_factory(spec) : learn::make_factory(spec), threads);
  Layout layout;
  std::vector<float> initial;
  // Then this process opens it only if somebody asks for a learner.
  if (described) {
    const auto model =
        std::make_shared<learn::Description>(describe_apart(spec, use.server_folder));
    layout = model->layout();
    initial = model->weights();
    job.digests.base = model->base_digest();
    job.adapter_files = [model] { return model->adapter_files(); };
  } else {
    learn::LearnerPool::Lease learner = job.learners->acquire();
    layout = learner->layout();
    initial.assign(learner->weights().begin(), learner->weights().end());
    job.digests.base = learner->base_digest();
    job.adapter_files = [&pool = *job.learners] { return pool.acquire()->adapter_files(); };
  }
  job.plan = plan_of(experiment, std::move(layout), std::move(initial));
  job.plan.common = root.stream("common");
  job.digests.layout = job.plan.layout.digest();
  job.digests.vocabulary = job.data.train->info().vocabulary_digest;
  job.experiment = std::move(experiment);
  if (!use.own_data) bound_examples(job, !use.server_folder.empty(), job.plan);
  if (job.experiment.budget.spread) spread_budget(job);
  job.digests.plan = plan_digest(job.experiment);
  job.digests.codec = codec_digest(job.experiment);
  return job;
}

std::size_t core_count() { return std::max(1U, std::thread::hardware_concurrency()); }

std::size_t thread_count(std::int64_t wanted) {
  const auto cores = static_cast<std::int64_t>(core_count());
  if (wanted > cores) {
    throw ConfigError(
        "--threads is " + std::to_string(wanted) + ", this machine has " + std::to_string(cores) +
            " cores",
        "more workers than cores run many times slower; use at most " + std::to_string(cores));
  }
  return static_cast<std::size_t>(wanted <= 0 ? cores : wanted);
}

}  // namespace fedctl::run
