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

// Waits until enough clients are there whose answers can be used. At the start of a job all are
// awaited until the deadline, so that the first cohort does not depend on who was faster; later
// only as many as the quorum needs. Throws QuorumError when plan.wait_s have passed.
Task<void> await_clients(Endpoint& net, const ServerContext& ctx,
                         const std::map<PeerId, std::string>& unusable, bool at_start) {
  const JobPlan& plan = ctx.plan;
  const std::int64_t needed = plan.quorum_count();
  const auto present = [&] {
    auto count = static_cast<std::int64_t>(net.peer_count());
    if (unusable.empty()) return count;
    return count -
           std::ranges::count_if(net.peers(), [&](PeerId peer) { return unusable.contains(peer); });
  };
  const auto await_until = [&](std::int64_t wanted, TimePoint until) -> Task<void> {
    while (present() < wanted) {
      if (present() < needed) ctx.sink.waiting(present(), needed);
      const std::optional<talk::Envelope> envelope = co_await net.receive(until);
      if (!envelope) break;
      if (std::holds_alternative<talk::Closed>(envelope->event)) {
        throw ProtocolError("the run was closed while clients were awaited");
      }
    }
  };
  const double all_s = plan.deadline_s > 0 ? plan.deadline_s : limits::kGatheringMaxS;
  if (at_start)
    co_await await_until(plan.clients - std::ssize(unusable), net.now() + seconds(all_s));
  // Waits that have ended earlier processes pass by.
  for (std::int64_t waits = 0; present() < needed; ++waits) {
    if (waits > ctx.endings) {
      const std::string why = "quorum not reached: " + std::to_string(present()) +
                              " clients connected, " + std::to_string(needed) +
                              " needed, clients.wait_s is " + std::to_string(plan.wait_s);
      ctx.sink.lacking({{}, why, waits, true});
      throw QuorumError(why,
                        "start more clients, lower clients.quorum, or raise clients.wait_s; "
                        "--resume goes on");
    }
    const TimePoint until = plan.wait_s > 0 ? net.now() + seconds(plan.wait_s) : kForever;
    co_await await_until(needed, until);
  }
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
  // From the sum of two, each knows the other's update.
  const std::int64_t least = secure.on ? 3 : 1;
  return std::max(least, static_cast<std::int64_t>(std::ceil(share - 1e-9)));
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
    ctx.endings = 0;
    if (tried.spent) {
      ctx.journal.write(attempt.round, journal::Event("void").set("reason", tried.failed));
    }
    if (tried.failed.empty() || tried.spent) {
      if (!ctx.sink.commit(tried.report, *this)) co_return;
      attempt = Attempt(attempt.round + 1);
      tries = 0;
      unusable_.clear();
      continue;
    }
    attempt.before = std::min(attempt.before + 1, kAttemptsMax);
    const bool ends = tried.in_vain || ++tries >= ctx.plan.attempts_max;
    ctx.sink.retry({tried.report, tried.failed, attempt.before, ends}, *this);
    if (ends) throw QuorumError(tried.failed, tried.hint + "; --resume asks for the round again");
  }
}

struct RoundServer::Asked {
  Asked(Attempt attempt_, TimePoint at_) : attempt(attempt_), at(at_) {}
  Attempt attempt;
  TimePoint at;
  double limit_s = 0;
  talk::Requests requests;
  talk::Answers answers;
  std::optional<MaskedRound> masked;
  talk::Inspect inspect;
  std::set<PeerId> behind;  // not at fault: what they lack they get the next time
  bool extended = false, servers_fault = false;  // as in Stragglers::Round
};

SharedMessage RoundServer::question(PeerId to, ServerContext& ctx, Attempt attempt) {
  SharedMessage task = instruct(attempt.round, to, ctx);
  const std::int64_t unused = ctx.stragglers.unused(to);
  // What was lost of an attempt at this round is computed again.
  const bool again = round_of(static_cast<ExchangeId>(unused)) == attempt.round;
  if (unused == 0 || (again && !ctx.plan.secure.on)) return task;
  return wire::share(Message(*task).with(talk::kUnused, unused));
}

void RoundServer::judge(Tried& tried, const talk::Answers& answers, const ServerContext& ctx) {
  RoundReport& report = tried.report;
  report.replied = std::ssize(answers.replies);
  report.rejected = std::ssize(answers.rejected);
  report.lost = report.clients - report.replied - report.rejected;
  tried.failed.clear();
  const std::int64_t needed = ctx.plan.quorum_count();
  if (report.replied >= needed) return;
  tried.failed = "round " + std::to_string(report.round) +
                 ": quorum not reached: " + std::to_string(report.replied) + " of " +
                 std::to_string(report.clients) + " usable answers, " + std::to_string(needed) +
                 " needed";
  tried.hint = "lower clients.quorum or raise clients.deadline_s";
  if (unusable_.empty()) return;
  const auto& [peer, reason] = *unusable_.begin();
  tried.failed += "; client " + std::to_string(peer) + ": " + reason;
  tried.in_vain = ctx.plan.clients - static_cast<std::int64_t>(unusable_.size()) < needed;
}

Task<void> RoundServer::wait_for_quorum(Endpoint& net, ServerContext& ctx, Asked& asked,
                                        Tried& tried) {
  talk::Answers& answers = asked.answers;
  const ExchangeId exchange = task_exchange(asked.attempt);
  double limit_s = asked.limit_s;
  for (std::int64_t shortages = 1;; ++shortages) {
    note_unusable(asked);
    judge(tried, answers, ctx);
    // One that is behind answers a new number only.
    if (tried.failed.empty() || tried.in_vain || !asked.behind.empty()) co_return;
    lack(shortages, tried.report, tried.failed, tried.hint, ctx);
    // Those that are back are asked again, and others in place of those that are not.
    const std::vector<PeerId> present = net.peers();
    std::vector<PeerId> to_ask, fresh;
    for (const PeerId peer : present) {
      if (answers.lost.contains(peer)) to_ask.push_back(peer);
      if (!asked.requests.contains(peer) && !unusable_.contains(peer)) fresh.push_back(peer);
    }
    for (const auto& [peer, reason] : answers.lost) answers.silent.push_back(peer);
    answers.lost.clear();
    const auto open = std::ranges::count_if(
        answers.silent, [&](PeerId peer) { return std::ranges::binary_search(present, peer); });
    const std::int64_t wanted =
        std::max<std::int64_t>(0, ctx.plan.per_round - std::ssize(answers.replies) - open);
    for (const PeerId peer :
         sample_cohort(ctx.plan, wanted, ctx.rng.stream("sampling", tried.report.round), fresh)) {
      asked.requests.emplace(peer, question(peer, ctx, asked.attempt));
      answers.silent.push_back(peer);
      to_ask.push_back(peer);
    }
    for (const PeerId peer : to_ask) co_await net.send(peer, exchange, asked.requests.at(peer));
    tried.report.clients = std::ssize(asked.requests);
    limit_s = std::min(2 * limit_s, std::max(asked.limit_s, limits::kDeadlineMaxS));
    const TimePoint until = net.now() + seconds(limit_s);
    co_await talk::wait_longer(net, exchange, asked.requests, until, answers, asked.inspect);
  }
}

void RoundServer::note_unusable(const Asked& asked) {
  for (const auto& [peer, reason] : asked.answers.rejected) {
    if (!asked.behind.contains(peer)) unusable_.emplace(peer, reason);
  }
}

// Puts the questions and gathers the answers.
Task<void> RoundServer::ask_round(Endpoint& net, ServerContext& ctx, Asked& asked) {
  const JobPlan& plan = ctx.plan;
  talk::Answers& answers = asked.answers;
  if (plan.secure.on) {
    const Message like = *blank(ctx);
    asked.masked = co_await ask_masked(net, plan, asked.attempt, asked.requests, asked.limit_s,
                                       like, ctx.vouching);
    answers = std::move(asked.masked->answers);
    for (const auto& [peer, task] : asked.requests) {
      if (answers.replies.contains(peer) || answers.rejected.contains(peer)) continue;
      answers.lost.try_emplace(peer, "left before its update was asked for");
    }
    answers.silent.clear();
    co_return;
  }
  const TimePoint until = asked.at + seconds(asked.limit_s);
  answers = co_await converse(net, ctx, asked.attempt, asked.requests, until, asked.inspect);
  const auto most_are_late = [&] { return 2 * answers.silent.size() > asked.requests.size(); };
  if (!ctx.stragglers.adaptive() || !most_are_late()) co_return;
  // Not their fault, it seems: the server's own link, or a round unlike the others.
  ctx.journal.write(asked.attempt.round, journal::Event("extend")
                                             .set("silent", answers.silent.size())
                                             .set("deadline_ms", 2e3 * asked.limit_s));
  co_await talk::wait_longer(net, task_exchange(asked.attempt), asked.requests,
                             asked.at + seconds(2 * asked.limit_s), answers, asked.inspect);
  asked.extended = true;
  asked.servers_fault = most_are_late();
}

Task<RoundServer::Tried> RoundServer::conduct(Endpoint& net, ServerContext& ctx, Attempt attempt) {
  const JobPlan& plan = ctx.plan;
  const std::int64_t round = attempt.round;
  Tried tried;
  RoundReport& report = tried.report;
  report.round = round;
  Stragglers::Round seen;
  seen.round = round;
  seen.task = task_exchange(attempt);

  const TimePoint opened = net.now();
  const TimePoint boundary = closed_.value_or(opened);
  const auto hear_late = [&](const talk::Answers::Late& answer) {
    const std::int64_t of = round_of(answer.exchange);
    ctx.journal.write(of, journal::Event("late").about(answer.from));
    if (is_task(answer.exchange)) {
      seen.late.push_back({answer.from, of, seconds_of(answer.at - boundary)});
    }
  };
  const std::vector<talk::Envelope> news = co_await talk::drain(net);
  for (const talk::Envelope& one : news) {
    if (std::holds_alternative<Message>(one.event)) hear_late({one.from, one.exchange, opened});
  }
  const bool at_start = round == ctx.first_round && attempt.before == ctx.first_attempt;
  co_await await_clients(net, ctx, unusable_, at_start);

  Asked asked{attempt, net.now()};
  std::vector<PeerId> present = net.peers();
  std::erase_if(present, [&](PeerId peer) { return unusable_.contains(peer); });
  const std::vector<PeerId> cohort =
      sample_cohort(plan, ctx.stragglers.to_ask(plan.per_round), ctx.rng.stream("sampling", round),
                    eligible(ctx, round, present));
  for (const PeerId peer : cohort) asked.requests.emplace(peer, question(peer, ctx, attempt));
  report.clients = std::ssize(asked.requests);
  report.wait_ms = to_ms(asked.at - opened);
  asked.limit_s = deadline_s(ctx, cohort, attempt);
  report.deadline_ms = asked.limit_s * 1e3;
  std::map<PeerId, learn::Scores> scores;
  asked.inspect = [&](PeerId from, const Message& answer) {
    if (answer.kind == kBehind) asked.behind.insert(from);
    require_work(answer);
    inspect(from, answer, ctx);
    require_norm(answer, ctx.plan);
    if (const auto reported = reported_holdout(answer)) scores.emplace(from, *reported);
    note_digest(from, answer, ctx.plan, report);
  };
  co_await ask_round(net, ctx, asked);
  talk::Answers& answers = asked.answers;
  if (asked.masked || !keeps_answers()) {
    note_unusable(asked);
    judge(tried, answers, ctx);
  } else {
    co_await wait_for_quorum(net, ctx, asked, tried);
  }
  if (asked.masked && !asked.masked->mean) {
    tried.failed = "round " + std::to_string(round) + ": secure aggregation: " + asked.masked->why;
    tried.hint = "nothing of the updates is known";
    tried.spent = asked.masked->spent;
  }
  const TimePoint answered = net.now();
  report.train_ms = to_ms(answered - asked.at);

  for (const auto& [peer, reported] : scores) report.client_scores.push_back(reported);
  for (const auto& [peer, reason] : answers.rejected) {
    ctx.journal.write(round, journal::Event("reject").about(peer).set("reason", reason));
    seen.rejected.push_back(peer);
  }
  for (const talk::Answers::Late& late : answers.late) hear_late(late);
  for (const auto& [peer, at] : answers.arrived) {
    seen.answered.emplace(peer, seconds_of(at - asked.at));
  }
  for (const auto& [peer, reason] : answers.lost) seen.lost.push_back(peer);
  seen.silent = answers.silent;
  seen.extended = asked.extended;
  seen.servers_fault = asked.servers_fault;
  seen.whole = seconds_of(answered - boundary);
  seen.open = seconds_of(answered - asked.at);
  seen.failed = !tried.failed.empty();
  closed_ = answered;
  if (tried.spent) report.train_loss = std::numeric_limits<double>::quiet_NaN();
  for (const journal::Event& event : ctx.stragglers.close(seen)) ctx.journal.write(round, event);
  if (!tried.failed.empty()) co_return tried;

  asked.requests.clear();  // memory for the sum
  const auto started = std::chrono::steady_clock::now();
  if (asked.masked) {
    const PeerId first = (*answers.replies.begin()).first;
    answers.replies.clear();
    answers.replies.emplace(first, std::move(*asked.masked->mean));
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
