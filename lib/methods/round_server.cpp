#include <algorithm>
#include <cmath>
#include <set>

#include "math/vectors.hpp"
#include "methods/detail/exchanges.hpp"
#include "methods/detail/holdout.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/masked.hpp"

namespace fedctl::methods {
namespace {

// Waits until enough clients are there whose answers can be used; false: in vain. At the start of a job all are awaited until
// the deadline, so that the first cohort does not depend on who was faster; later only as many as
// the quorum needs.
Task<bool> await_clients(Endpoint& net, const ServerContext& ctx,
                         const std::map<PeerId, std::string>& unusable, bool at_start) {
  const JobPlan& plan = ctx.plan;
  const TimePoint start = net.now();
  const auto present = [&] {
    auto count = static_cast<std::int64_t>(net.peer_count());
    if (unusable.empty()) return count;
    return count - std::ranges::count_if(
                       net.peers(), [&](PeerId peer) { return unusable.contains(peer); });
  };
  const auto await_until = [&](std::int64_t wanted, TimePoint until) -> Task<void> {
    while (present() < wanted) {
      if (present() < plan.quorum_count()) ctx.sink.waiting(present(), plan.quorum_count());
      const std::optional<talk::Envelope> envelope = co_await net.receive(until);
      if (!envelope) break;
      if (std::holds_alternative<talk::Closed>(envelope->event)) {
        throw ProtocolError("the run was closed while clients were awaited");
      }
    }
  };
  const double all_s = plan.deadline_s > 0 ? plan.deadline_s : limits::kGatheringMaxS;
  if (at_start) co_await await_until(plan.clients - std::ssize(unusable), start + seconds(all_s));
  const TimePoint until = plan.wait_s > 0 ? start + seconds(plan.wait_s) : kForever;
  co_await await_until(plan.quorum_count(), until);
  co_return present() >= plan.quorum_count();
}

// How long clients may take. A round that failed gets twice as long each time.
double deadline_s(const ServerContext& ctx, std::span<const PeerId> cohort, Attempt attempt) {
  const double most = ctx.plan.deadline_max_s();
  double usual = most;
  if (ctx.stragglers.adaptive()) {
    usual = std::min(most, ctx.stragglers.deadline_s(cohort).value_or(most));
  }
  constexpr std::int64_t kDoublingsMax = 16;
  const auto doublings = static_cast<int>(std::min(attempt.before, kDoublingsMax));
  return std::min(std::ldexp(usual, doublings), std::max(most, limits::kDeadlineMaxS));
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
                             const std::vector<PeerId>& present) {
  std::vector<PeerId> left;
  std::ranges::copy_if(present, std::back_inserter(left),
                       [&](PeerId peer) { return !ctx.stragglers.isolated(peer, round); });
  const bool enough = static_cast<std::int64_t>(left.size()) >= ctx.plan.quorum_count();
  return enough ? left : present;
}

}  // namespace

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

Task<talk::Answers> RoundServer::converse(Endpoint& net, ServerContext&, Attempt attempt,
                                          const talk::Requests& requests, TimePoint until,
                                          talk::Inspect inspect) {
  return talk::ask(net, task_exchange(attempt), requests, until, std::move(inspect));
}

Task<void> RoundServer::run(Endpoint& net, ServerContext& ctx) {
  Attempt attempt{ctx.first_round, ctx.first_attempt};
  std::int64_t tries = 0;
  while (attempt.round <= ctx.plan.rounds) {
    const Tried tried = co_await conduct(net, ctx, attempt);
    if (tried.failed.empty()) {
      if (!ctx.sink.commit(tried.report, *this)) co_return;
      attempt = Attempt(attempt.round + 1);
      tries = 0;
      unusable_.clear();
      continue;
    }
    const std::string why = "round " + std::to_string(attempt.round) + ": " + tried.failed;
    attempt.before = std::min(attempt.before + 1, kAttemptsMax);
    ctx.sink.retry(tried.report, attempt.before, why, *this);
    if (tried.in_vain || ++tries >= ctx.plan.attempts_max) throw QuorumError(why, tried.hint);
  }
}

void RoundServer::judge(Tried& tried, const talk::Answers& answers, const ServerContext& ctx) {
  const auto needed = ctx.plan.quorum_count();
  const auto replied = static_cast<std::int64_t>(answers.replies.size());
  if (replied >= needed) return;
  tried.failed = "quorum not reached: " + std::to_string(replied) + " of " +
                 std::to_string(tried.report.clients) + " usable answers, " +
                 std::to_string(needed) + " needed";
  tried.hint = "lower clients.quorum or raise clients.deadline_s; --resume asks for the round again";
  if (unusable_.empty()) return;
  const auto& [peer, reason] = *unusable_.begin();
  tried.failed += "; client " + std::to_string(peer) + ": " + reason;
  tried.in_vain = ctx.plan.clients - static_cast<std::int64_t>(unusable_.size()) < needed;
}

Task<RoundServer::Tried> RoundServer::conduct(Endpoint& net, ServerContext& ctx, Attempt attempt) {
  const JobPlan& plan = ctx.plan;
  const std::int64_t round = attempt.round;
  Tried tried{{.round = round}, ""};
  RoundReport& report = tried.report;
  Stragglers::Round seen;
  seen.round = round;
  seen.task = task_exchange(attempt);

  const TimePoint opened = net.now();
  const TimePoint boundary = closed_.value_or(opened);
  const auto hear_late = [&](const talk::Envelope& answer, TimePoint at) {
    if (!std::holds_alternative<Message>(answer.event)) return;
    const std::int64_t of = round_of(answer.exchange);
    ctx.journal.write(of, journal::Event("late").about(answer.from));
    if (is_task(answer.exchange)) {
      seen.late.push_back({answer.from, of, seconds_of(at - boundary)});
    }
  };
  const std::vector<talk::Envelope> news = co_await talk::drain(net);
  for (const talk::Envelope& envelope : news) hear_late(envelope, opened);
  const bool at_start = round == ctx.first_round && attempt.before == ctx.first_attempt;
  if (!co_await await_clients(net, ctx, unusable_, at_start)) {
    tried.failed = "quorum not reached: " + std::to_string(net.peer_count()) +
                   " clients connected, " + std::to_string(plan.quorum_count()) +
                   " needed, clients.wait_s is " + std::to_string(plan.wait_s);
    tried.hint =
        "start more clients, lower clients.quorum, or raise clients.wait_s; --resume goes on";
    tried.in_vain = true;
    co_return tried;
  }
  std::vector<PeerId> present = net.peers();
  std::erase_if(present, [&](PeerId peer) { return unusable_.contains(peer); });
  present = eligible(ctx, round, present);
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
  const double limit_s = deadline_s(ctx, cohort, attempt);
  report.deadline_ms = limit_s * 1e3;
  std::optional<MaskedRound> masked;
  std::map<PeerId, learn::Scores> scores;
  std::set<PeerId> behind;  // not at fault: what they lack they get the next time
  const talk::Inspect inspect_one = [&](PeerId from, const Message& answer) {
    behind.erase(from);
    if (answer.kind == kBehind) behind.insert(from);
    require_work(answer);
    inspect(from, answer, ctx);
    require_norm(answer, ctx.plan);
    if (const auto reported = reported_holdout(answer)) scores.emplace(from, *reported);
    note_digest(from, answer, ctx.plan, report);
  };
  talk::Answers answers;
  if (plan.secure.on) {
    const Message like = *blank(ctx);
    masked = co_await ask_masked(net, plan, attempt, requests, limit_s, like);
    answers = std::move(masked->answers);
    for (const auto& [peer, task] : requests) {
      if (answers.replies.contains(peer) || answers.rejected.contains(peer)) continue;
      answers.lost.try_emplace(peer, "left before its update was asked for");
    }
    answers.silent.clear();
  } else {
    answers =
        co_await converse(net, ctx, attempt, requests, asked + seconds(limit_s), inspect_one);
  }
  const auto most_are_late = [&] { return 2 * answers.silent.size() > requests.size(); };
  if (!masked && ctx.stragglers.adaptive() && most_are_late()) {
    // Not their fault, it seems: the server's own link, or a round unlike the others.
    ctx.journal.write(round, journal::Event("extend")
                                 .set("silent", answers.silent.size())
                                 .set("deadline_ms", 2 * report.deadline_ms));
    co_await talk::wait_longer(net, task_exchange(attempt), requests,
                               asked + seconds(2 * limit_s), answers,
                               inspect_one);
    seen.extended = true;
    seen.servers_fault = most_are_late();
  }
  const TimePoint answered = net.now();
  report.train_ms = to_ms(answered - asked);

  for (const auto& [peer, reported] : scores) report.client_scores.push_back(reported);
  for (const auto& [peer, reason] : answers.rejected) {
    ctx.journal.write(round, journal::Event("reject").about(peer).set("reason", reason));
    seen.rejected.push_back(peer);
    if (!behind.contains(peer)) unusable_.emplace(peer, reason);
  }
  for (const talk::Answers::Late& late : answers.late) hear_late(late.answer, late.at);
  for (const auto& [peer, at] : answers.arrived) {
    seen.answered.emplace(peer, seconds_of(at - asked));
  }
  for (const auto& [peer, reason] : answers.lost) seen.lost.push_back(peer);
  seen.silent = answers.silent;
  seen.whole = seconds_of(answered - boundary);
  seen.open = seconds_of(answered - asked);
  closed_ = answered;
  report.replied = static_cast<std::int64_t>(answers.replies.size());
  report.rejected = static_cast<std::int64_t>(answers.rejected.size());
  report.lost = report.clients - report.replied - report.rejected;
  judge(tried, answers, ctx);
  if (masked && !masked->mean) {
    tried.failed = "secure aggregation: " + masked->why;
    tried.hint = "nothing of the updates is known; --resume asks for the round again";
  }
  seen.failed = !tried.failed.empty();
  for (const journal::Event& event : ctx.stragglers.close(seen)) ctx.journal.write(round, event);
  if (seen.failed) co_return tried;

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
  co_return tried;
}

}  // namespace fedctl::methods
