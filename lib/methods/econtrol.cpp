// EControl: Gao, Islamov, Stich, "EControl: fast distributed optimization with compression and
// error control", ICLR 2024, arXiv 2311.05645, algorithm 1, with local steps and partial
// participation. Client i remembers an estimate h_i of its gradient and the error e_i of all that
// it has sent; the server the mean H of h_i over all N clients, everything 0 at first.
//
//   server -> client  "train"   {f32 "weights" x [d]; "round"}
//   client            g = (x - y) / sum lr, y the weights behind K local steps
//                     p = eta e_i + g - h_i,   q = C(p), what the codec leaves of it
//                     e_i <- e_i + g - h_i - q,   h_i <- h_i + q
//   client -> server  "update"  {f32 "difference" p [d], read as q; "examples", "loss", "steps",
//                     f64 "path" = sum lr, "used": answers of this client that the server has used}
//                     start: first, and nothing used yet: u8 "start" g [4 d] instead, h_i = g
//   server            H <- H + sum q / N,   x <- x - lr_g path H, path the mean over the answers
//
// Bytes a round and client: 4 d down; up those of the codec for d values, 4 d without one.
// Memory: the server 4 d, the client 16 d: what it had before its last answer, too.
//
// eta is `safety` times the least contraction 1 - |p - q|^2 / |p|^2 of any message so far; 0 is
// EF21 (Richtarik, Sokolov, Fatkhullin, NeurIPS 2021).
//
// Deviation from the paper: clients that are not asked keep h_i and e_i, and an answer that was not
// used is taken back as if the client had not been asked.
// Deviation from the sheet: a client that has lost its h_i is rejected; the server does not know
// what to take out of H, which is all it remembers.
#include <algorithm>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/controlled.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/scalars.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {
namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

struct EControlOptions final : ControlledOptions {
  double eta = 0, safety = 0.25;
  bool ablate = false;
  std::string start = "zero";
  void fields(config::Fields& fields) override {
    fields.real("safety", safety, {.min = 0, .max = 1},
                "of the least contraction of a message so far, as the share of the error that is "
                "fed back");
    fields.boolean("ablate", ablate, "a fixed share of the error is fed back: eta");
    fields.real("eta", eta, {.min = 0, .max = 1}, "that share; 0: EF21");
    fields.text("start", start, {.one_of = {"zero", "first"}},
                "a client's estimate of its gradient at first; first: its first one, sent whole");
    ControlledOptions::fields(fields);
  }
};

// The float32 values in u8 "start". Throws ProtocolError unless they are `size` finite ones.
std::vector<float> start_in(const Message& update, std::size_t size) {
  const ByteView bytes = bytes_in(update, "start");
  if (bytes.size() != 4 * size) {
    throw ProtocolError("\"start\" has " + std::to_string(bytes.size()) + " bytes, expected " +
                        std::to_string(4 * size));
  }
  const Tensor tensor{DType::f32, {static_cast<std::int64_t>(size)}, {bytes.begin(), bytes.end()}};
  std::vector<float> values(tensor.f32().begin(), tensor.f32().end());
  if (!math::all_finite(values)) throw ProtocolError("\"start\" is not finite");
  return values;
}

class EControlServer final : public RoundServer {
 public:
  EControlServer(const EControlOptions& options, std::size_t size)
      : lr_(options.server_lr), first_(options.start == "first"), mean_(size) {}

  SharedMessage instruct(std::int64_t round, PeerId, ServerContext& ctx) override {
    if (round != task_round_) {
      task_ = wire::share(
          Message("train").with("round", round).with("weights", Tensor::of(ctx.weights, {})));
      task_round_ = round;
    }
    return task_;
  }

  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override {
    require_report(reply, from, ctx.plan);
    require_path(reply, from, ctx.plan);
    used_.require_same(from, reply);
    if (starts(from)) {
      require_norm(math::norm(start_in(reply, mean_.size())), ctx.plan, "start");
    } else {
      wire::Expect(reply, "update").f32("difference", {static_cast<std::int64_t>(mean_.size())});
    }
  }

  Merged merge(std::int64_t, const Replies& replies, ServerContext& ctx) override {
    const auto sum = ctx.aggregator.start(mean_.size());
    Merged merged;
    double path = 0;
    for (const auto& [peer, reply] : replies) {
      add_report(merged, reply);
      path += wire::Expect(reply, "update").real("path");
      if (starts(peer)) {
        sum->add({peer, 1, start_in(reply, mean_.size())});
      } else {
        sum->add({peer, 1, reply.tensors.at("difference").f32()});
      }
      used_.add(peer);
    }
    finish(merged);
    const auto answered = static_cast<double>(replies.size());
    std::vector<float> moved(mean_.size());
    sum->finish(moved);
    const double share = answered / static_cast<double>(ctx.plan.clients);
    const double step = lr_ * path / answered;
    for (std::size_t i = 0; i < mean_.size(); ++i) {
      mean_[i] = static_cast<float>(mean_[i] + share * moved[i]);
      ctx.weights[i] = static_cast<float>(ctx.weights[i] - step * mean_[i]);
    }
    return merged;
  }

  Message save() const override {
    return Message("state").with("mean", Tensor::of(mean_, {})).with("used", used_.save());
  }
  void load(const Message& state) override {
    const auto mean =
        wire::Expect(state, "state").f32("mean", {static_cast<std::int64_t>(mean_.size())});
    mean_.assign(mean.begin(), mean.end());
    used_.load(state, "used");
  }

 private:
  bool starts(PeerId peer) const { return first_ && used_.of(peer) == 0; }

  double lr_;
  bool first_;
  std::vector<float> mean_;  // H
  UsedAnswers used_;
  std::int64_t task_round_ = 0;
  SharedMessage task_;
};

class EControlClient final : public RoundClient {
 public:
  EControlClient(const EControlOptions& options, std::size_t size)
      : fixed_(options.ablate),
        share_(options.ablate ? options.eta : options.safety),
        first_(options.start == "first"),
        now_{std::vector<float>(size), std::vector<float>(size)} {}

  Work work(const Message& task, ClientContext& ctx) override {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    const auto size = static_cast<std::int64_t>(now_.estimate.size());
    const std::span<const float> start = expect.f32("weights", {size});

    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    std::ranges::copy(start, learner->weights().begin());
    const learn::TrainReport report =
        learn::train(*learner, ctx.data, ctx.train, ctx.plan.train, {},
                     ctx.rng.stream("order", round), {round, ctx.plan.rounds});
    const std::span<const float> end = learner->weights();
    gradient_.resize(start.size());
    for (std::size_t i = 0; i < start.size(); ++i) {
      gradient_[i] = static_cast<float>((double{start[i]} - end[i]) / report.path);
    }
    Message update = Message("update")
                         .with("examples", report.examples)
                         .with("loss", report.loss)
                         .with("steps", report.steps)
                         .with("path", report.path)
                         .with("used", now_.used);
    // What is not finite goes as a difference, which is not sent.
    if (first_ && now_.used == 0 && math::all_finite(gradient_)) {
      update.tensors.emplace("start", tensor_of(Tensor::of(gradient_, {}).bytes));
    } else {
      update.tensors.emplace("difference", Tensor::of(difference(), {}));
    }
    return {std::move(update), report.steps};
  }

  bool follows() const override { return true; }
  void answered(ExchangeId exchange, const Message& as_read) override {
    before_ = now_;
    exchange_ = exchange;
    ++now_.used;
    const auto found = as_read.tensors.find("difference");
    if (found == as_read.tensors.end()) {
      now_.estimate = gradient_;
      return;
    }
    const std::span<const float> sent = found->second.f32();
    const std::vector<float> wanted = difference();
    const double norm = math::norm(wanted);
    if (norm > 0) {
      const double lost = math::distance(wanted, sent) / norm;
      now_.contraction = std::clamp(1 - lost * lost, 0.0, now_.contraction);
    }
    for (std::size_t i = 0; i < sent.size(); ++i) {
      now_.error[i] += gradient_[i] - now_.estimate[i] - sent[i];
      now_.estimate[i] += sent[i];
    }
  }
  void unused(ExchangeId exchange) override {
    if (exchange != exchange_ || !before_) return;
    now_ = *before_;
    before_.reset();
  }

  Message save() const override {
    Message state = Message("state").with("exchange", static_cast<std::int64_t>(exchange_));
    write(now_, "now", state);
    if (before_) write(*before_, "before", state);
    return state;
  }
  void load(const Message& state) override {
    exchange_ =
        static_cast<ExchangeId>(wire::Expect(state, "state").integer("exchange", 0, kCountMax));
    const std::size_t size = now_.estimate.size();
    now_ = read(state, "now", size);
    before_.reset();
    if (state.scalars.contains("before/used")) before_ = read(state, "before", size);
  }

 private:
  struct Memory {
    std::vector<float> estimate, error;  // h_i, e_i
    double contraction = 1;              // the least so far
    std::int64_t used = 0;
  };

  // p
  std::vector<float> difference() const {
    const auto eta = static_cast<float>(fixed_ ? share_ : share_ * now_.contraction);
    std::vector<float> wanted(gradient_.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      wanted[i] = gradient_[i] - now_.estimate[i] + eta * now_.error[i];
    }
    return wanted;
  }

  static void write(const Memory& memory, const std::string& name, Message& state) {
    state.tensors.emplace(name + "/estimate", Tensor::of(memory.estimate, {}));
    state.tensors.emplace(name + "/error", Tensor::of(memory.error, {}));
    state.scalars.emplace(name + "/contraction", memory.contraction);
    state.scalars.emplace(name + "/used", memory.used);
  }
  static Memory read(const Message& state, const std::string& name, std::size_t size) {
    const wire::Expect fields(state, "state");
    const auto vector = [&](const char* which) {
      const auto values = fields.f32(name + which, {static_cast<std::int64_t>(size)});
      return std::vector<float>(values.begin(), values.end());
    };
    return {vector("/estimate"), vector("/error"), fields.real(name + "/contraction"),
            fields.integer(name + "/used", 0, kCountMax)};
  }

  bool fixed_;
  double share_;  // eta, or of the contraction
  bool first_;
  Memory now_;
  std::optional<Memory> before_;  // the last answer; none if it was taken back
  ExchangeId exchange_ = 0;       // of that
  std::vector<float> gradient_;   // g of the task that is worked on
};

}  // namespace

MethodEntry econtrol();
MethodEntry econtrol() {
  return {.kind = {"econtrol",
                   "differences of gradients through a contractive codec, and a share "
                   "of the error; unequal clients do not stall it",
                   "Gao, Islamov, Stich, ICLR 2024, arXiv 2311.05645",
                   [] { return std::make_unique<EControlOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .own_feedback = true,
          .check =
              [](const config::Options& options) {
                const auto& given = dynamic_cast<const EControlOptions&>(options);
                if (given.eta > 0 && !given.ablate) {
                  throw ConfigError("method.eta is set, but method.ablate is false",
                                    "ablate: true fixes eta; else safety measures it");
                }
              },
          .make_server = [](const config::Options& options,
                            const JobPlan& plan) -> std::unique_ptr<ServerMethod> {
            return std::make_unique<EControlServer>(dynamic_cast<const EControlOptions&>(options),
                                                    plan.layout.size());
          },
          .make_client = [](const config::Options& options,
                            const JobPlan& plan) -> std::unique_ptr<ClientMethod> {
            return std::make_unique<EControlClient>(dynamic_cast<const EControlOptions&>(options),
                                                    plan.layout.size());
          }};
}

}  // namespace fedctl::methods
