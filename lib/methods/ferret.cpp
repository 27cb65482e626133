// Ferret: Shu et al., "Ferret: federated full-parameter tuning at scale for large language models",
// ICML 2025, arXiv 2409.06277. First-order local training; the difference Delta = w - w_T travels
// as coordinates in random bases (detail/projection.hpp), and everyone adds them up from a log
// (detail/replay.hpp).
//
//   client   blocks l: K_l coordinates gamma_l; its own bases: words K_l [L], then the coordinates;
//            `shared` bases: the coordinates alone, K_l from the blocks' sizes
//   entry    own bases: LEB128 clients m and their ids, then their answers; shared: the aggregate
//   all      w <- w - server_lr mean over clients of sum_k gamma_lk v_lk
//
// Payload a round and client, numbers of b bytes: 2 L + b sum K_l up (b sum K_l shared); for every
// round missed the cohort's answers (shared: one) down.
//
// Deviation from the paper: coordinates are unbiased (1 / (rho K)), where the official code scales
// by d / K, a third of it: its server rates 10 and 3 are 3.3 and 1 here. Keys follow from round,
// client, block and number: no seed travels.
#include <algorithm>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/projection.hpp"
#include "methods/detail/replay.hpp"

namespace fedctl::methods {

MethodEntry ferret();

namespace {

struct FerretOptions final : config::Options {
  std::int64_t coordinates = 200;
  std::string budget = "norm", basis = "truncated", scalars = "float16";
  bool shared = false, ablate = false;
  double server_lr = 1, clip = 0;
  void fields(config::Fields& fields) override {
    fields.integer("coordinates", coordinates, {2, 65535}, "K of the block with the most");
    fields.text("budget", budget, {.one_of = {"norm", "error", "equal"}},
                "K of the others, as |Delta_l|, as |Delta_l| sqrt(d_l), which has the least "
                "error, or all alike");
    fields.boolean("shared", shared, "the same bases for all clients; K as sqrt(d_l)");
    fields.text("basis", basis, {.one_of = {"truncated", "sign"}},
                "normals truncated to 1 / sqrt(d_l), or signs");
    fields.real("server_lr", server_lr, {.above = 0}, "times the clients' mean difference");
    fields.real("clip", clip, {.min = 0}, "longest term gamma v; 0: any");
    fields.boolean("ablate", ablate, "budget: all alike");
    ScalarCode::field(fields, scalars);
  }
};

class FerretRule final : public Rule {
 public:
  FerretRule(const FerretOptions& options, const JobPlan& job)
      : Rule(job, options.scalars), options_(options), runs_(packed_blocks(job.layout)) {
    std::vector<double> sizes;
    for (const Run& run : runs_) {
      bases_.emplace_back(options.basis, run.count);
      sizes.push_back(std::sqrt(static_cast<double>(run.count)));
    }
    most_ = static_cast<std::size_t>(std::max<std::int64_t>(2, options.coordinates));
    fixed_ = allot(sizes, static_cast<std::size_t>(options.coordinates));
  }

  double norm(ByteView answer, std::int64_t) const override {
    const Read found = read(answer);
    if (found.bytes != answer.size()) throw WireError("bytes behind the coordinates");
    double squares = 0;
    for (const std::vector<float>& gammas : found.gammas) {
      squares += math::dot(gammas, gammas);
    }
    return std::sqrt(squares);
  }

  Measured measure(const Replica& replica, std::int64_t, learn::Learner& learner,
                   ClientContext& ctx) const override {
    const std::int64_t round = replica.round + 1;
    const learn::TrainReport report =
        learn::train(learner, ctx.data, ctx.train, plan.train, {}, ctx.rng.stream("order", round),
                     {round, plan.rounds});
    std::vector<float> delta(replica.weights.begin(), replica.weights.end());
    for (std::size_t i = 0; i < delta.size(); ++i) delta[i] -= learner.weights()[i];
    const std::vector<std::size_t> counts = options_.shared ? fixed_ : counts_of(delta);
    Measured measured;
    measured.loss = report.loss;
    measured.steps = report.steps;
    if (!options_.shared) measured.bytes = words_of(counts);
    for (std::size_t l = 0; l < runs_.size(); ++l) {
      const std::vector<float> gammas = project(bases_[l], block(delta, l), counts[l],
                                                keys(round, options_.shared ? -1 : ctx.id, l));
      const Bytes codes = code.encode(gammas, ctx.rng.stream("code", round, l));
      measured.bytes.insert(measured.bytes.end(), codes.begin(), codes.end());
    }
    return measured;
  }

  Bytes entry(const Replica& replica, const Answers& answers,
              aggregate::Aggregator& aggregator) const override {
    Bytes bytes;
    ByteWriter writer(bytes);
    if (!options_.shared) {
      writer.varint(answers.size());
      for (const auto& [peer, answer] : answers) writer.varint(static_cast<std::uint64_t>(peer));
      for (const auto& [peer, answer] : answers) writer.raw(answer);
      return bytes;
    }
    std::vector<std::vector<float>> all;
    std::vector<aggregate::Contribution> contributions;
    for (const auto& [peer, answer] : answers) {
      all.push_back(code.decode(answer, fixed_count()));
      contributions.push_back({peer, 1, all.back()});
    }
    std::vector<float> mean(fixed_count());
    aggregator.combine(contributions, mean);
    return code.encode(mean, plan.common.stream("code", replica.round + 1));
  }

  std::size_t entry_bytes(ByteView log) const override {
    if (options_.shared) {
      if (fixed_count() * code.width() > log.size()) throw WireError("the log ends in an entry");
      return fixed_count() * code.width();
    }
    ByteReader reader(log);
    const std::vector<PeerId> peers = peers_in(reader);
    for (std::size_t i = 0; i < peers.size(); ++i) {
      reader.raw(read(log.subspan(log.size() - reader.left())).bytes);
    }
    return log.size() - reader.left();
  }

  void advance(Replica& replica, ByteView entry) const override {
    const std::int64_t round = ++replica.round;
    ByteReader reader(entry);
    const std::vector<PeerId> peers = options_.shared ? std::vector<PeerId>{-1} : peers_in(reader);
    const double factor = -options_.server_lr / static_cast<double>(peers.size());
    for (const PeerId peer : peers) {
      const Read answer = read(entry.subspan(entry.size() - reader.left()));
      reader.raw(answer.bytes);
      for (std::size_t l = 0; l < runs_.size(); ++l) {
        reconstruct(bases_[l], answer.gammas[l], keys(round, peer, l), factor, options_.clip,
                    replica.weights.subspan(runs_[l].first, runs_[l].count));
      }
    }
  }

 private:
  // The first answer in the bytes.
  struct Read {
    std::vector<std::vector<float>> gammas;  // by block
    std::size_t bytes = 0;
  };
  Read read(ByteView bytes) const {
    ByteReader reader(bytes);
    const std::vector<std::size_t> counts =
        options_.shared ? fixed_ : words_in(reader.raw(2 * runs_.size()), 65536);
    Read found;
    for (const std::size_t count : counts) {
      if (count > most_) {
        throw WireError(std::to_string(count) + " coordinates of a block, at most " +
                        std::to_string(most_));
      }
      found.gammas.push_back(code.decode(reader.raw(count * code.width()), count));
    }
    found.bytes = bytes.size() - reader.left();
    return found;
  }
  static std::vector<PeerId> peers_in(ByteReader& reader) {
    const std::uint64_t count = reader.varint();
    if (count == 0 || count > reader.left()) throw WireError("an entry of no client");
    std::vector<PeerId> peers;
    for (std::uint64_t i = 0; i < count; ++i) peers.push_back(static_cast<PeerId>(reader.varint()));
    return peers;
  }

  std::size_t fixed_count() const {
    std::size_t count = 0;
    for (const std::size_t own : fixed_) count += own;
    return count;
  }
  std::span<const float> block(std::span<const float> vector, std::size_t l) const {
    return vector.subspan(runs_[l].first, runs_[l].count);
  }
  std::vector<std::size_t> counts_of(std::span<const float> delta) const {
    std::vector<double> shares;
    for (std::size_t l = 0; l < runs_.size(); ++l) {
      double share =
          options_.budget == "equal" || options_.ablate ? 1 : math::norm(block(delta, l));
      if (options_.budget == "error") share *= std::sqrt(static_cast<double>(runs_[l].count));
      shares.push_back(share);
    }
    return allot(shares, static_cast<std::size_t>(options_.coordinates));
  }
  KeyOf keys(std::int64_t round, PeerId peer, std::size_t l) const {
    const Rng stream = plan.common.stream("basis", round, peer, l);
    return [stream](std::size_t k) { return stream.stream("vector", k).key(); };
  }

  FerretOptions options_;
  std::vector<Run> runs_;
  std::vector<Basis> bases_;
  std::vector<std::size_t> fixed_;  // K_l where bases are shared
  std::size_t most_ = 0;            // of any K_l
};

}  // namespace

MethodEntry ferret() {
  return {.kind = {"ferret", "first-order training; differences as coordinates in random bases",
                   "Shu et al., ICML 2025, arXiv 2409.06277",
                   [] { return std::make_unique<FerretOptions>(); }},
          .needs = "gradients",
          .payload = "scalars",
          .rung = 2,
          .alike = false,
          .own_code = true,
          .make_server = replay_server<FerretRule, FerretOptions>,
          .make_client = replay_client<FerretRule, FerretOptions>};
}

}  // namespace fedctl::methods
