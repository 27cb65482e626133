#include <algorithm>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/holdout.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/masked.hpp"

namespace fedctl::methods {
namespace {

// Waits until enough clients are there. At the start of a job all are awaited until the deadline,
// so that the first cohort does not depend on who was faster; later only as many as the quorum
// needs.
Task<void> await_clients(Endpoint& net, const JobPlan& plan, bool at_start) {
  const TimePoint start = net.now();
  const auto present = [&] { return static_cast<std::int64_t>(net.peer_count()); };
  const auto await_until = [&net, present](std::int64_t wanted, TimePoint until) -> Task<void> {
    while (present() < wanted) {
      const std::optional<talk::Envelope> envelope = co_await net.receive(until);
      if (!envelope) break;
      if (std::holds_alternative<talk::Closed>(envelope->event)) {
        throw ProtocolError("the run was closed while clients were awaited");
      }
    }
  };
  const double all_s = plan.deadline_s > 0 ? plan.deadline_s : limits::kGatheringMaxS;
  if (at_start) co_await await_until(plan.clients, start + seconds(all_s));
  co_await await_until(plan.quorum_count(), start + seconds(plan.deadline_max_s()));
  if (present() < plan.quorum_count()) {
    throw QuorumError("quorum not reached: " + std::to_string(present()) + " clients connected, " +
                          std::to_string(plan.quorum_count()) + " needed, waited " +
                          std::to_string(plan.deadline_max_s()) + " s",
                      "start more clients, lower clients.quorum, or raise clients.deadline_s");
  }
}

// The weights before a merge; on the disk where large answers are.
class Before {
 public:
  Before(std::span<const float> weights, const std::shared_ptr<Scratch>& scratch) {
    if (!scratch || weights.size_bytes() <= limits::kRepliesBytesMax) {
      copy_.assign(weights.begin(), weights.end());
      return;
    }
    region_ = scratch->take(weights.size_bytes());
    region_->write(0, as_bytes_of(weights));
  }
  double distance(std::span<const float> weights) const {
    if (!region_) return math::distance(copy_, weights);
    double sum = 0;
    std::vector<float> piece(kPiece);
    for (std::size_t at = 0; at < weights.size(); at += kPiece) {
      piece.resize(std::min(kPiece, weights.size() - at));
      region_->read(at * sizeof(float), std::as_writable_bytes(std::span(piece)));
      sum = math::squared_distance(piece, weights.subspan(at, piece.size()), sum);
    }
    return std::sqrt(sum);
  }

 private:
  static constexpr std::size_t kPiece = 1 << 16;
  std::vector<float> copy_;
  std::shared_ptr<Scratch::Region> region_;
};

double seconds_of(Duration duration) { return to_ms(duration) * 1e-3; }

// The present ones that are not isolated; all of them if the quorum needs them.
std::vector<PeerId> eligible(const ServerContext& ctx, std::int64_t round,
                             std::vector<PeerId> present) {
  std::vector<PeerId> left;
  std::ranges::copy_if(present, std::back_inserter(left),
                       [&](PeerId peer) { return !ctx.stragglers.isolated(peer, round); });
  const bool enough = static_cast<std::int64_t>(left.size()) >= ctx.plan.quorum_count();
  return enough ? left : present;
}

}  // namespace

void require_work(const Message& answer) {
  if (answer.kind == kFailed) throw ProtocolError(wire::Expect(answer, kFailed).text("reason"));
}

void require_norm(double norm, const JobPlan& plan, const std::string& what) {
  if (norm <= plan.norm_max) return;
  throw ProtocolError("norm" + (what.empty() ? "" : " of the " + what) + ' ' +
                      std::to_string(norm) + ", server.max_update_norm is " +
                      std::to_string(plan.norm_max));
}

void require_norm(const Message& answer, const JobPlan& plan) {
  if (plan.norm_max == std::numeric_limits<double>::infinity()) return;
  double squares = 0;
  for (const auto& [name, tensor] : answer.tensors) {
    if (tensor.dtype != DType::f32) continue;
    squares += math::dot(tensor.f32(), tensor.f32());
  }
  require_norm(std::sqrt(squares), plan);
}

std::int64_t require_report(const Message& update, const JobPlan& plan) {
  const wire::Expect fields(update, "update");
  const std::int64_t examples = fields.integer("examples", 1, plan.examples_max);
  fields.integer("steps", 0, std::numeric_limits<std::int64_t>::max());
  fields.real("loss");
  return examples;
}

std::int64_t add_report(RoundServer::Merged& merged, const Message& update) {
  const wire::Expect fields(update, "update");
  const std::int64_t examples =
      fields.integer("examples", 1, std::numeric_limits<std::int64_t>::max());
  merged.examples += examples;
  merged.train_loss += static_cast<double>(examples) * fields.real("loss");
  return examples;
}

void finish(RoundServer::Merged& merged) {
  merged.train_loss /= static_cast<double>(merged.examples);
}

std::int64_t JobPlan::quorum_count() const {
  const double share = quorum * static_cast<double>(per_round);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(share - 1e-9)));
}

double JobPlan::step_ms_of(PeerId client) const {
  const bool slow = common.stream("slow", client).uniform_double() < slow_share;
  return slow ? step_ms * slow_factor : step_ms;
}

std::vector<PeerId> sample_cohort(const JobPlan& plan, std::int64_t count, Rng rng,
                                  std::span<const PeerId> present) {
  std::vector<PeerId> cohort;
  for (const std::size_t id : rng.permutation(static_cast<std::size_t>(plan.clients))) {
    if (cohort.size() == static_cast<std::size_t>(count)) break;
    const auto peer = static_cast<PeerId>(id);
    if (std::ranges::binary_search(present, peer)) cohort.push_back(peer);
  }
  std::ranges::sort(cohort);
  return cohort;
}

Task<talk::Answers> RoundServer::converse(Endpoint& net, ServerContext&, std::int64_t round,
                                          const talk::Requests& requests, TimePoint until,
                                          talk::Inspect inspect) {
  return talk::ask(net, static_cast<ExchangeId>(round), requests, until, std::move(inspect));
}

Task<void> RoundServer::run(Endpoint& net, ServerContext& ctx) {
  for (std::int64_t round = ctx.first_round; round <= ctx.plan.rounds; ++round) {
    const RoundReport report = co_await conduct(net, ctx, round);
    if (!ctx.sink.commit(report, *this)) co_return;
  }
}

Task<RoundReport> RoundServer::conduct(Endpoint& net, ServerContext& ctx, std::int64_t round) {
  const JobPlan& plan = ctx.plan;
  RoundReport report{.round = round};
  const auto exchange = static_cast<ExchangeId>(round);
  Stragglers::Round seen;
  seen.round = round;

  const TimePoint opened = net.now();
  const TimePoint boundary = closed_.value_or(opened);
  const auto hear_late = [&](const talk::Envelope& answer, TimePoint at) {
    if (!std::holds_alternative<Message>(answer.event)) return;
    const std::int64_t of = round_of(answer.exchange);
    ctx.journal.write(of, journal::Event("late").about(answer.from));
    if (answer.exchange == static_cast<ExchangeId>(of)) {
      seen.late.push_back({answer.from, of, seconds_of(at - boundary)});
    }
  };
  const std::vector<talk::Envelope> news = co_await talk::drain(net);
  for (const talk::Envelope& envelope : news) hear_late(envelope, opened);
  co_await await_clients(net, plan, round == ctx.first_round);
  const std::vector<PeerId> present = eligible(ctx, round, net.peers());
  talk::Requests requests;
  const std::vector<PeerId> cohort = sample_cohort(plan, ctx.stragglers.to_ask(plan.per_round),
                                                   ctx.rng.stream("sampling", round), present);
  for (const PeerId peer : cohort) {
    SharedMessage task = instruct(round, peer, ctx);
    if (const std::int64_t unused = ctx.stragglers.unused(peer); unused > 0) {
      task = wire::share(Message(*task).with(talk::kUnused, unused));
    }
    requests.emplace(peer, std::move(task));
  }
  report.clients = static_cast<std::int64_t>(requests.size());

  const TimePoint asked = net.now();
  report.wait_ms = to_ms(asked - opened);
  double deadline_s = plan.deadline_max_s();
  if (ctx.stragglers.adaptive()) {
    deadline_s = std::min(deadline_s, ctx.stragglers.deadline_s(cohort).value_or(deadline_s));
  }
  report.deadline_ms = deadline_s * 1e3;
  std::optional<MaskedRound> masked;
  std::map<PeerId, learn::Scores> scores;
  const talk::Inspect inspect_one = [&](PeerId from, const Message& answer) {
    require_work(answer);
    inspect(from, answer, ctx);
    require_norm(answer, ctx.plan);
    if (const auto reported = reported_holdout(answer)) scores.emplace(from, *reported);
  };
  talk::Answers answers;
  if (plan.secure.on) {
    const Message like = *blank(ctx);
    masked = co_await ask_masked(net, plan, round, requests, deadline_s, like);
    answers = std::move(masked->answers);
    for (const auto& [peer, task] : requests) {
      if (answers.replies.contains(peer) || answers.rejected.contains(peer)) continue;
      answers.lost.try_emplace(peer, "left before its update was asked for");
    }
    answers.silent.clear();
  } else {
    answers =
        co_await converse(net, ctx, round, requests, asked + seconds(deadline_s), inspect_one);
  }
  const auto most_are_late = [&] { return 2 * answers.silent.size() > requests.size(); };
  if (!masked && ctx.stragglers.adaptive() && most_are_late()) {
    // Not their fault, it seems: the server's own link, or a round unlike the others.
    ctx.journal.write(round, journal::Event("extend")
                                 .set("silent", answers.silent.size())
                                 .set("deadline_ms", 2 * report.deadline_ms));
    co_await talk::wait_longer(net, exchange, requests, asked + seconds(2 * deadline_s), answers,
                               inspect_one);
    seen.extended = true;
    seen.servers_fault = most_are_late();
  }
  const TimePoint answered = net.now();
  report.train_ms = to_ms(answered - asked);

  for (const auto& [peer, reported] : scores) report.client_scores.push_back(reported);
  for (const auto& [peer, reason] : answers.rejected) {
    ctx.journal.write(round, journal::Event("reject").about(peer).set("reason", reason));
  }
  for (const auto& [peer, reason] : answers.rejected) seen.rejected.push_back(peer);
  for (const talk::Answers::Late& late : answers.late) hear_late(late.answer, late.at);
  for (const auto& [peer, at] : answers.arrived) {
    seen.answered.emplace(peer, seconds_of(at - asked));
  }
  for (const auto& [peer, reason] : answers.lost) seen.lost.push_back(peer);
  seen.silent = answers.silent;
  seen.whole = seconds_of(answered - boundary);
  seen.open = seconds_of(answered - asked);
  closed_ = answered;
  for (const journal::Event& event : ctx.stragglers.close(seen)) ctx.journal.write(round, event);

  report.replied = static_cast<std::int64_t>(answers.replies.size());
  report.rejected = static_cast<std::int64_t>(answers.rejected.size());
  report.lost = report.clients - report.replied - report.rejected;
  if (masked && !masked->mean) {
    throw QuorumError("round " + std::to_string(round) + ": secure aggregation: " + masked->why,
                      "nothing of the updates is known; --resume asks for the round again");
  }
  if (report.replied < plan.quorum_count()) {
    throw QuorumError(
        "round " + std::to_string(round) + ": quorum not reached: " +
            std::to_string(report.replied) + " of " + std::to_string(report.clients) +
            " usable answers, " + std::to_string(plan.quorum_count()) + " needed",
        "lower clients.quorum or raise clients.deadline_s; --resume goes on from round " +
            std::to_string(round - 1));
  }

  requests.clear();  // memory for the sum
  const auto started = std::chrono::steady_clock::now();
  if (masked) {
    const PeerId first = (*answers.replies.begin()).first;
    answers.replies.clear();
    answers.replies.emplace(first, std::move(*masked->mean));
  }
  const Before before(ctx.weights, net.scratch());
  const Merged merged = merge(round, answers.replies, ctx);
  report.examples = merged.examples;
  report.train_loss = merged.train_loss;
  report.peers = merged.peers;
  report.update_norm = before.distance(ctx.weights);
  report.aggregate_ms = to_ms(std::chrono::steady_clock::now() - started);
  co_return report;
}

}  // namespace fedctl::methods
