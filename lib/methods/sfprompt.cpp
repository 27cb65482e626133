// SFPrompt: Cao, Zhu, Gong, "SFPrompt: communication-efficient split federated fine-tuning for
// large pre-trained models over resource-limited devices", 2024, arXiv 2407.17533. No official
// code.
//
// The client has the front (embedding with soft prompt tokens, `blocks` blocks) and the tail (norm
// and classifier), the server the body between them; front and body are frozen. A round: (1) the
// client trains prompt and tail with the front wired straight into the tail, (2) keeps the
// examples with the largest EL2N scores of that short model and trains on them through the body,
// (3) prompt and tail are averaged as FedAvg does.
//
//   server -> client  "train"     {f32 "weights" [d]; "round"}
//   client -> server  "rows"      {u8 "rows": A, front's output; i64 "lengths" [n]}   each batch
//   server -> client  "features"  {u8 "rows": F = body(A)}
//   client -> server  "slopes"    {u8 "rows": dL/dF}
//   server -> client  "slopes"    {u8 "rows": dL/dA}; the answer is the next batch's "rows", or
//   client -> server  "update"    {f32 "delta" [d]; "examples", "loss", "steps"}
//
// u8 rows are the bytes of float32. Every line from the server is a question of its own
// (detail/exchanges.hpp): two round trips a batch. Bytes a round and client with N' kept examples:
// 4 d + 4 N' (q_F + q_A) down, 4 d + N' (4 (q_A + q_F) + 8) up; q_A = (T + P) l, and q_F = l where
// the model reads one token at its end (its last block gives no other row), else q_A: variant B of
// the three that send only rows somebody needs.
//
// The server keeps of a client its last A alone, and runs the body again for dL/dA: it is frozen,
// so the result is the same. A client that is restarted in the middle is out for the round.
// Labels stay with the client, but dL/dF tells them to a server that looks.
//
// Unconfirmed: which cut the paper takes, whether phase 1 runs on all examples (`prune_first`),
// that the largest scores are kept (`score`).
#include "math/vectors.hpp"
#include "methods/detail/averaging.hpp"
#include "methods/detail/conversation.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/split.hpp"

namespace fedctl::methods {

MethodEntry sfprompt();

namespace {

struct SfpromptOptions final : AveragingOptions {
  std::int64_t blocks = 1;
  double keep = 0.5;
  std::string score = "largest";
  bool local = true, prune_first = false, ablate = false;
  void fields(config::Fields& fields) override {
    fields.integer("blocks", blocks, {0, 1024}, "of the model, that the client has");
    fields.real("keep", keep, {.above = 0, .max = 1}, "share of the examples that is split over");
    fields.text("score", score, {.one_of = {"largest", "smallest"}}, "EL2N of the examples kept");
    fields.boolean("local", local, "train without the body first: train.epochs or train.steps");
    fields.boolean("prune_first", prune_first,
                   "choose the examples before that, and train on them");
    fields.boolean("ablate", ablate, "keep all examples");
    AveragingOptions::fields(fields);
  }
};

class SfpromptServer final : public AveragingServer {
 public:
  SfpromptServer(const SfpromptOptions& options, const JobPlan& plan)
      : AveragingServer(make_server_optimizer(options, plan)), blocks_(options.blocks) {}

  SharedMessage instruct(std::int64_t round, PeerId to, ServerContext& ctx) override {
    if (cut_.body.parts.empty()) cut_ = cut_model(*ctx.learners.acquire(), blocks_);
    return AveragingServer::instruct(round, to, ctx);
  }

  bool keeps_answers() const override { return false; }
  Task<talk::Answers> converse(Endpoint& net, ServerContext& ctx, Attempt attempt,
                               const talk::Requests& requests, TimePoint until,
                               talk::Inspect inspect) override {
    states_.clear();
    return converse_each(
        net, attempt, requests, until,
        [this, &ctx](PeerId from, const Message& answer) { return next(from, answer, ctx); },
        std::move(inspect));
  }

 private:
  std::optional<Message> next(PeerId from, const Message& answer, ServerContext& ctx) {
    const auto state = states_.find(from);
    const bool open = state != states_.end();
    if (answer.kind == "slopes" && open) {
      const TensorMap given = std::move(states_.extract(state).mapped());
      learn::LearnerPool::Lease learner = ctx.learners.acquire();
      const TensorMap features = cut_.body.forward(*learner, given);
      const Tensor slopes = rows_in(answer, features.at("lengths").i64());
      const TensorMap back = cut_.body.backward(*learner, {{"rows", slopes}});
      return Message("slopes").with("rows", finite_rows(back));
    }
    if (open) throw ProtocolError('"' + answer.kind + "\", \"slopes\" were asked for");
    if (answer.kind != "rows") return std::nullopt;
    const std::vector<std::int64_t> lengths = lengths_in(answer, ctx.plan.train.batch_size);
    const TensorMap given = {{"rows", rows_in(answer, lengths)},
                             {"lengths", Tensor::of(std::span(lengths), {})}};
    const TensorMap features = cut_.body.forward(*ctx.learners.acquire(), given);
    states_.insert_or_assign(from, given);
    return Message("features").with("rows", finite_rows(features));
  }
  // What a client could not read is not sent: its rows were too large for the body.
  static Tensor finite_rows(const TensorMap& state) {
    const Tensor& rows = state.at("rows");
    if (math::all_finite(rows.f32())) return bytes_of_rows(rows);
    throw ProtocolError("what the server's part of the model makes of its rows is not finite");
  }

  std::int64_t blocks_;
  Cut cut_;
  std::map<PeerId, TensorMap> states_;  // A of the clients whose dL/dF is awaited
};

// What a client keeps between the questions of a round.
struct Round {
  std::vector<float> start, weights;
  std::unique_ptr<learn::Optimizer> optimizer;
  std::vector<std::vector<std::size_t>> batches;  // of phase 2
  std::size_t at = 0;
  std::vector<std::int64_t> lengths;  // of this batch's F
  std::vector<float> gradient;        // so far, of this step
  std::string awaited;                // the kind of the server's next question
  learn::TrainReport report;
};

class SfpromptClient final : public RoundClient {
 public:
  bool rests() const override { return false; }
  explicit SfpromptClient(const SfpromptOptions& options) : options_(options) {}

  Work work(const Message& task, ClientContext& ctx) override {
    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    if (task.kind == "train") return begin(*learner, task, ctx);
    if (!round_ || task.kind != round_->awaited) {
      return {Message(kFailed).with("reason", "it has lost what came before \"" + task.kind + '"')};
    }
    std::ranges::copy(round_->weights, learner->weights().begin());
    if (task.kind == "features") return {slopes(*learner, task, ctx)};
    finish_step(*learner, task, ctx);
    return {++round_->at < round_->batches.size() ? rows(*learner, ctx) : update(), 1};
  }

 private:
  Work begin(learn::Learner& learner, const Message& task, ClientContext& ctx) {
    const wire::Expect fields(task, "train");
    const Rng rng = ctx.rng.stream("order", fields.integer("round", 1, kRoundsMax));
    const auto start = fields.f32("weights", {static_cast<std::int64_t>(ctx.plan.layout.size())});
    if (cut_.body.parts.empty()) cut(learner, ctx);
    round_.emplace();
    round_->start.assign(start.begin(), start.end());
    round_->optimizer = learn::make_optimizer(ctx.plan.train, ctx.plan.layout);
    round_->report.examples = static_cast<std::int64_t>(ctx.train.size());
    std::ranges::copy(start, learner.weights().begin());

    std::vector<std::size_t> kept(ctx.train.begin(), ctx.train.end());
    std::int64_t steps = 0;
    if (options_.prune_first) kept = prune(learner, ctx);
    if (options_.local) steps = train_short(learner, kept, rng.stream("local"), ctx);
    if (!options_.prune_first) kept = prune(learner, ctx);
    round_->batches = learn::epoch_batches(
        kept, static_cast<std::size_t>(ctx.plan.train.batch_size), rng.stream("split"));
    round_->weights.assign(learner.weights().begin(), learner.weights().end());
    return {rows(learner, ctx), steps};
  }

  // Finds out, by one example through all parts, whether the tail reads its first row alone.
  void cut(learn::Learner& learner, ClientContext& ctx) {
    if (ctx.data.info().task != data::Task::classify) {
      throw ConfigError("method.kind is sfprompt, but data.kind is one without classes",
                        "its scores are those of a classifier");
    }
    Cut parts = cut_model(learner, options_.blocks);
    const TensorMap state = parts.front.forward(learner, ctx.data.gather(ctx.train.first(1)));
    const TensorMap features = parts.body.forward(learner, state);
    first_only_ = features.at("lengths") != state.at("lengths");
    if (first_only_ && options_.blocks == 0) {
      throw ConfigError(
          "method.blocks is 0, but the model reads one token at its end: without a "
          "block in front it is the same for all examples",
          "method: {blocks: 1}");
    }
    cut_ = std::move(parts);
  }

  // The model without its body.
  Tensor short_logits(learn::Learner& learner, const TensorMap& state) const {
    return cut_.tail.forward(learner, first_only_ ? first_rows(state) : state).at("logits");
  }

  // Phase 1; returns its steps.
  std::int64_t train_short(learn::Learner& learner, std::span<const std::size_t> indices,
                           const Rng& rng, ClientContext& ctx) {
    const learn::TrainOptions& train = ctx.plan.train;
    const std::int64_t steps = learn::steps_of(train, indices.size());
    std::int64_t step = 0;
    for (std::int64_t epoch = 0; step < steps; ++epoch) {
      const auto batches = learn::epoch_batches(indices, static_cast<std::size_t>(train.batch_size),
                                                rng.stream("epoch", epoch));
      for (std::size_t at = 0; at < batches.size() && step < steps; ++at, ++step) {
        const data::Batch batch = ctx.data.gather(batches[at]);
        std::ranges::fill(learner.gradient(), 0.0F);
        const TensorMap state = cut_.front.forward(learner, batch);
        const Loss loss = cross_entropy(short_logits(learner, state), batch.at("labels").i64());
        Tensor back = std::move(cut_.tail.backward(learner, {{"logits", loss.slope}}).at("rows"));
        if (first_only_) back = among_zeros(back, state);
        cut_.front.backward(learner, {{"rows", std::move(back)}});
        move(learner, ctx);
      }
    }
    return steps;
  }

  std::vector<std::size_t> prune(learn::Learner& learner, ClientContext& ctx) const {
    std::vector<double> scores;
    const auto size = static_cast<std::size_t>(ctx.plan.train.batch_size);
    for (const std::vector<std::size_t>& indices : learn::batches_of(ctx.train, size)) {
      const data::Batch batch = ctx.data.gather(indices);
      const Tensor logits = short_logits(learner, cut_.front.forward(learner, batch));
      for (const double score : el2n(logits, batch.at("labels").i64())) scores.push_back(score);
    }
    std::vector<std::size_t> kept;
    const double keep = options_.ablate ? 1 : options_.keep;
    for (const std::size_t i : select(scores, keep, options_.score == "largest")) {
      kept.push_back(ctx.train[i]);
    }
    return kept;
  }

  Message rows(learn::Learner& learner, ClientContext& ctx) {
    const TensorMap state =
        cut_.front.forward(learner, ctx.data.gather(round_->batches[round_->at]));
    const auto lengths = state.at("lengths").i64();
    round_->lengths.assign(lengths.begin(), lengths.end());
    if (first_only_) round_->lengths.assign(lengths.size(), 1);
    round_->awaited = "features";
    return Message("rows")
        .with("rows", bytes_of_rows(state.at("rows")))
        .with("lengths", state.at("lengths"));
  }

  Message slopes(learn::Learner& learner, const Message& task, ClientContext& ctx) {
    const TensorMap features = {
        {"rows", rows_in(task, round_->lengths)},
        {"lengths", Tensor::of(std::span<const std::int64_t>(round_->lengths), {})}};
    const data::Batch batch = ctx.data.gather(round_->batches[round_->at]);
    std::ranges::fill(learner.gradient(), 0.0F);
    const Loss loss =
        cross_entropy(cut_.tail.forward(learner, features).at("logits"), batch.at("labels").i64());
    const TensorMap back = cut_.tail.backward(learner, {{"logits", loss.slope}});
    round_->gradient.assign(learner.gradient().begin(), learner.gradient().end());
    round_->report.loss += loss.mean;
    round_->awaited = "slopes";
    return Message("slopes").with("rows", bytes_of_rows(back.at("rows")));
  }

  void finish_step(learn::Learner& learner, const Message& task, ClientContext& ctx) {
    const TensorMap state =
        cut_.front.forward(learner, ctx.data.gather(round_->batches[round_->at]));
    std::ranges::copy(round_->gradient, learner.gradient().begin());
    cut_.front.backward(learner, {{"rows", rows_in(task, state.at("lengths").i64())}});
    move(learner, ctx);
    round_->weights.assign(learner.weights().begin(), learner.weights().end());
    ++round_->report.steps;
  }

  Message update() {
    round_->report.loss /= static_cast<double>(round_->report.steps);
    Message answer = update_of(round_->weights, round_->start, round_->report);
    round_.reset();
    return answer;
  }

  void move(learn::Learner& learner, ClientContext& ctx) {
    const learn::TrainOptions& train = ctx.plan.train;
    learn::clip(learner.gradient(), train.clip);
    round_->optimizer->step(learner.weights(), learner.gradient(),
                            learn::learning_rate(train.optimizer));
  }

  SfpromptOptions options_;
  Cut cut_;
  bool first_only_ = false;
  std::optional<Round> round_;
};

}  // namespace

MethodEntry sfprompt() {
  return {
      .kind = {"sfprompt", "the body of the model on the server; prompt and classifier trained",
               "Cao, Zhu, Gong, 2024, arXiv 2407.17533",
               [] { return std::make_unique<SfpromptOptions>(); }},
      .needs = "parts",
      .payload = "activations",
      .rung = 3,
      .alike = false,
      .make_server =
          [](const config::Options& options, const JobPlan& plan) {
            return std::make_unique<SfpromptServer>(dynamic_cast<const SfpromptOptions&>(options),
                                                    plan);
          },
      .make_client =
          [](const config::Options& options, const JobPlan&) {
            return std::make_unique<SfpromptClient>(dynamic_cast<const SfpromptOptions&>(options));
          }};
}

}  // namespace fedctl::methods
