// Just One Byte: Zelikman, Huang, Liang, Haber, Goodman, "Just one byte (per gradient): a note on
// low-bandwidth decentralized language model finetuning using shared randomness", 2023, arXiv
// 2306.10015, on MeZO (Malladi et al., NeurIPS 2023, arXiv 2305.17333). Every client has directions
// of its own, known from its id; all apply all slopes. Messages: detail/replay.hpp.
//
//   round t, client i, k = 1 .. steps: g_ik along z of the key (t, i, k) at w, a batch each
//   entry    LEB128: clients m, then id and count of each; then the numbers, client by client
//   all      w <- w - lr / D(N) g_ik z_ik for all i, k in this order, N the sum of the counts
//
// Payload a round and client with `byte`: steps up; for every round missed 1 + sum over the cohort
// of (steps + 2) down (ids and counts below 128).
//
// Deviation from the paper: a star, where the paper's machines send to each other; the order is
// that of the ids, not of joining.
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/replay.hpp"

namespace fedctl::methods {

MethodEntry just_one_byte();

namespace {

struct JustOneByteOptions final : config::Options {
  double probe = 1e-3;
  std::string divide = "count", scalars = "byte";
  void fields(config::Fields& fields) override {
    fields.real("probe", probe, {.above = 0}, "distance of the two losses; 1e-2 for LoRA");
    fields.text("divide", divide, {.one_of = {"count", "root"}},
                "step over the number of all slopes, the mean, or over its root, as the official "
                "program does");
    ScalarCode::field(fields, scalars);
  }
};

class JustOneByteRule final : public Rule {
 public:
  JustOneByteRule(const JustOneByteOptions& options, const JobPlan& job)
      : Rule(job, options.scalars),
        options_(options),
        lr_(learn::learning_rate(job.train.optimizer)) {}

  double norm(ByteView answer, std::int64_t steps) const override {
    return math::norm(code.decode(answer, static_cast<std::size_t>(steps)));
  }

  Measured measure(const Replica& replica, std::int64_t steps, learn::Learner& learner,
                   ClientContext& ctx) const override {
    const std::int64_t round = replica.round + 1;
    Batches batches(ctx.data, ctx.train, static_cast<std::size_t>(plan.train.batch_size),
                    ctx.rng.stream("order", round));
    Probe probe(learner, directions, options_.probe);
    std::vector<float> slopes;
    Measured measured;
    measured.steps = steps;
    for (std::int64_t k = 0; k < steps; ++k) {
      const Probe::Slope found = probe.central(key(round, ctx.id, k), batches.next());
      std::ranges::copy(replica.weights, learner.weights().begin());
      slopes.push_back(static_cast<float>(found.slope));  // 0 if a loss was not finite
      measured.loss += found.loss / static_cast<double>(steps);
    }
    measured.bytes = code.encode(slopes, ctx.rng.stream("code", round));
    return measured;
  }

  Bytes entry(const Replica&, const Answers& answers, aggregate::Aggregator&) const override {
    Bytes bytes;
    ByteWriter head(bytes);
    head.varint(answers.size());
    for (const auto& [peer, answer] : answers) {
      head.varint(static_cast<std::uint64_t>(peer));
      head.varint(answer.size() / code.width());
    }
    for (const auto& [peer, answer] : answers) head.raw(answer);
    return bytes;
  }

  std::size_t entry_bytes(ByteView log) const override {
    const Head head(log);
    const std::size_t bytes = head.bytes + head.count * code.width();
    if (bytes > log.size()) throw WireError("the log ends in an entry");
    return bytes;
  }

  void advance(Replica& replica, ByteView entry) const override {
    const Head head(entry);
    const std::vector<float> slopes = code.decode(entry.subspan(head.bytes), head.count);
    const auto count = static_cast<double>(head.count);
    const double rate = lr_ / (options_.divide == "root" ? std::sqrt(count) : count);
    ++replica.round;
    std::size_t at = 0;
    for (const auto& [peer, own] : head.clients) {
      for (std::size_t k = 0; k < own; ++k) {
        directions.add(key(replica.round, peer, static_cast<std::int64_t>(k)), -rate * slopes[at++],
                       replica.weights);
      }
    }
  }

 private:
  // Who measured how much.
  struct Head {
    std::vector<std::pair<PeerId, std::size_t>> clients;
    std::size_t count = 0, bytes = 0;
    explicit Head(ByteView log) {
      ByteReader reader(log);
      const std::uint64_t rows = reader.varint();
      for (std::uint64_t i = 0; i < rows; ++i) {
        const std::uint64_t peer = reader.varint(), own = reader.varint();
        if (peer >= static_cast<std::uint64_t>(limits::kClientsMax) || own > reader.left()) {
          throw WireError("an entry names client " + std::to_string(peer) + " with " +
                          std::to_string(own) + " slopes");
        }
        clients.emplace_back(static_cast<PeerId>(peer), own);
        count += own;
      }
      bytes = log.size() - reader.left();
    }
  };

  std::uint64_t key(std::int64_t round, PeerId peer, std::int64_t k) const {
    return plan.common.stream("direction", round, peer, k).key();
  }

  JustOneByteOptions options_;
  double lr_;
};

}  // namespace

MethodEntry just_one_byte() {
  return {.kind = {"just_one_byte", "every client's own random directions; a byte a slope, to all",
                   "Zelikman et al., 2023, arXiv 2306.10015",
                   [] { return std::make_unique<JustOneByteOptions>(); }},
          .needs = "loss",
          .payload = "scalars",
          .rung = 2,
          .alike = false,
          .mean_only = true,
          .fixed_steps = true,
          .own_code = true,
          .make_server = replay_server<JustOneByteRule, JustOneByteOptions>,
          .make_client = replay_client<JustOneByteRule, JustOneByteOptions>};
}

}  // namespace fedctl::methods
