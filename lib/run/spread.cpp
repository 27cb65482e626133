#include "run/spread.hpp"

#include <algorithm>
#include <cmath>

#include "codec/codec.hpp"
#include "run/greeting.hpp"
#include "run/trial.hpp"

namespace fedctl::run {
namespace {

constexpr double kShare = 0.98;  // of the budget that is planned with
constexpr double kBitsMin = 0.02, kBitsMax = 12;
constexpr std::int64_t kClients = 4;  // whose mean counts
constexpr double kFrameBytes = 120;   // where messages cannot be tried
constexpr double kMessageBytes = 20;  // the shortest message of auto that says anything
// Under TLS: of a client's handshake with its certificates, and of a message's records.
constexpr double kTlsHandshakeBytes = 3000, kTlsRecordBytes = 22;

void set_all(CodecOptions& codec, const config::Plugin& plugin) {
  for (auto& [open, chain] :
       {std::pair(codec.spread_up, &codec.up), {codec.spread_down, &codec.down}}) {
    const std::string place = open ? chain->front().place : "";
    if (open) *chain = {plugin};
    if (open) chain->front().place = place;
  }
}

// Bytes that cross once, or beside the messages.
double beside(Job& job) {
  const talk::Crossing each = handshake_of(job, "0.0.0");
  const auto clients = static_cast<double>(job.plan.clients);
  double bytes = clients * static_cast<double>(each.up.sum() + each.down.sum());
  if (!job.experiment.server.tls.files.empty()) {
    bytes += clients * kTlsHandshakeBytes +
             static_cast<double>(2 * job.plan.rounds * job.plan.per_round) * kTlsRecordBytes;
  }
  return bytes;
}

// Bytes of all rounds' messages with this codec, which takes a fixed number of bits a value.
// `first_down`: of the first round's questions, which may be all there is to them.
struct Cost {
  double all = 0, first_down = 0;
};
Cost cost_of(Job& job, learn::LearnerPool& learners, const char* codec) {
  set_all(job.experiment.codec, config::make_plugin(codec::codec_kinds(), codec));
  methods::JobPlan plan = job.plan;
  plan.rounds = std::min<std::int64_t>(2, plan.rounds);
  plan.clients = plan.per_round = std::min(kClients, job.plan.per_round);
  plan.quorum = 1;
  plan.train.steps = 1;
  const std::vector<TrialRound> rounds = trial(job, plan, learners);
  const double scale =
      static_cast<double>(job.plan.per_round) / static_cast<double>(plan.per_round);
  const auto bytes = [&](const talk::Traffic& traffic) {
    return scale * static_cast<double>(traffic.sum());
  };
  const talk::Crossing first = rounds.front().bytes, later = rounds.back().bytes;
  return {bytes(first.up) + bytes(first.down) +
              static_cast<double>(job.plan.rounds - 1) * (bytes(later.up) + bytes(later.down)),
          bytes(first.down)};
}

// Bytes are linear in the bits: `fixed` + `each_bit` * bits.
struct Line {
  double fixed = 0, each_bit = 0;
};
Line line_of(Job& job) {
  const auto learners = make_guessers(job.plan.layout);
  constexpr double kBits = 8, kMoreBits = 16;
  const Cost less = cost_of(job, *learners, "logbyte"), more = cost_of(job, *learners, "float16");
  Line line;
  line.each_bit = (more.all - less.all) / (kMoreBits - kBits);
  line.fixed = less.all - line.each_bit * kBits;
  const CodecOptions& codec = job.experiment.codec;
  const bool known = codec.error_feedback_down != "none" ||
                     std::ranges::all_of(job.plan.initial, [](float value) { return value == 0; });
  if (codec.spread_down && known) {  // zeros, or no difference yet: next to nothing
    line.each_bit -= (more.first_down - less.first_down) / (kMoreBits - kBits);
  }
  return line;
}

// If the messages were vectors of the model alone, and what stands in front of them.
Line guess(const Job& job) {
  const CodecOptions& codec = job.experiment.codec;
  const auto messages = static_cast<double>(job.plan.rounds * job.plan.per_round);
  const int ways = (codec.spread_up ? 1 : 0) + (codec.spread_down ? 1 : 0);
  return {2 * messages * kFrameBytes,
          messages * ways * static_cast<double>(job.plan.layout.size()) / 8};
}

}  // namespace

void spread_budget(Job& job) {
  Experiment& experiment = job.experiment;
  experiment.budget.spread = false;  // whoever reads the plan finds the bits in it
  const auto total = static_cast<double>(experiment.budget.total_bytes);
  const double available = kShare * total - beside(job);
  // Without a model there are no parts of one to ask for.
  const Line line = job.method().needs == "parts" ? guess(job) : line_of(job);
  const auto size = static_cast<double>(job.plan.layout.size());
  const double least = std::max(kBitsMin, 8 * kMessageBytes / size);
  double bits = line.each_bit > 0 ? (available - line.fixed) / line.each_bit : kBitsMax;
  if (bits < least) {
    throw ConfigError("budget.total_bytes is " + std::to_string(experiment.budget.total_bytes) +
                          ": too few for " + std::to_string(experiment.rounds) + " rounds of " +
                          std::to_string(experiment.cohort()) + " clients and " +
                          std::to_string(job.plan.layout.size()) + " parameters",
                      "auto needs 0.02 bit a parameter and 20 bytes a message; fewer rounds, a "
                      "smaller cohort or adapter");
  }
  // Few digits: they travel to every client.
  bits = std::min(std::floor(bits * 1e5) / 1e5, kBitsMax);
  set_all(experiment.codec,
          config::make_plugin(codec::codec_kinds(), "auto", {{"bits_per_parameter", bits}}));
}

}  // namespace fedctl::run
