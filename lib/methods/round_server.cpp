#include <algorithm>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/holdout.hpp"

namespace fedctl::methods {
namespace {

// Waits until enough clients are there. At the start of a job all are awaited until the deadline,
// so that the first cohort does not depend on who was faster; later only as many as the quorum
// needs.
Task<void> await_clients(Endpoint& net, const JobPlan& plan, bool at_start) {
  const TimePoint until = net.now() + seconds(plan.deadline_s);
  const auto wanted = static_cast<std::size_t>(at_start ? plan.clients : plan.quorum_count());
  while (net.peers().size() < wanted) {
    const std::optional<talk::Envelope> envelope = co_await net.receive(until);
    if (!envelope) break;
    if (std::holds_alternative<talk::Closed>(envelope->event)) {
      throw ProtocolError("the run was closed while clients were awaited");
    }
  }
  const std::size_t present = net.peers().size();
  if (present < static_cast<std::size_t>(plan.quorum_count())) {
    throw QuorumError("quorum not reached: " + std::to_string(present) + " clients connected, " +
                          std::to_string(plan.quorum_count()) + " needed, waited " +
                          std::to_string(plan.deadline_s) + " s",
                      "start more clients, lower clients.quorum, or raise clients.deadline_s");
  }
}

// Throws ProtocolError if the tensors together are longer than the plan allows.
void check_norm(const Message& update, const JobPlan& plan) {
  double squares = 0;
  for (const auto& [name, tensor] : update.tensors) {
    if (tensor.dtype != DType::f32) continue;
    squares += math::dot(tensor.f32(), tensor.f32());
  }
  const double norm = std::sqrt(squares);
  if (!(norm <= plan.norm_max)) {
    throw ProtocolError("norm " + std::to_string(norm) + ", server.max_update_norm is " +
                        std::to_string(plan.norm_max));
  }
}

void journal_late(journal::Journal& journal, const std::vector<talk::Envelope>& envelopes) {
  for (const talk::Envelope& envelope : envelopes) {
    if (!std::holds_alternative<Message>(envelope.event)) continue;
    journal.write(static_cast<std::int64_t>(envelope.exchange),
                  journal::Event("late").about(envelope.from));
  }
}

}  // namespace

std::int64_t JobPlan::quorum_count() const {
  const double share = quorum * static_cast<double>(per_round);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(share - 1e-9)));
}

std::vector<PeerId> sample_cohort(const JobPlan& plan, Rng rng, std::span<const PeerId> present) {
  std::vector<PeerId> cohort;
  for (const std::size_t id : rng.permutation(static_cast<std::size_t>(plan.clients))) {
    if (cohort.size() == static_cast<std::size_t>(plan.per_round)) break;
    const auto peer = static_cast<PeerId>(id);
    if (std::ranges::binary_search(present, peer)) cohort.push_back(peer);
  }
  std::ranges::sort(cohort);
  return cohort;
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

  const TimePoint opened = net.now();
  const std::vector<talk::Envelope> news = co_await talk::drain(net);
  journal_late(ctx.journal, news);
  co_await await_clients(net, plan, round == ctx.first_round);
  const std::vector<PeerId> present = net.peers();
  talk::Requests requests;
  for (const PeerId peer : sample_cohort(plan, ctx.rng.stream("sampling", round), present)) {
    requests.emplace(peer, instruct(round, peer, ctx));
  }
  report.clients = static_cast<std::int64_t>(requests.size());

  const TimePoint asked = net.now();
  report.wait_ms = to_ms(asked - opened);
  talk::Answers answers =
      co_await talk::ask(net, exchange, std::move(requests), asked + seconds(plan.deadline_s));
  const TimePoint answered = net.now();
  report.train_ms = to_ms(answered - asked);
  journal_late(ctx.journal, answers.late);

  for (auto at = answers.replies.begin(); at != answers.replies.end();) {
    try {
      if (at->second.kind == kFailed) {
        throw ProtocolError(wire::Expect(at->second, kFailed).text("reason"));
      }
      inspect(at->second, ctx);
      check_norm(at->second, plan);
      if (const auto scores = reported_holdout(at->second)) {
        report.client_scores.push_back(*scores);
      }
      ++at;
    } catch (const ProtocolError& error) {
      answers.rejected.emplace(at->first, error.what());
      at = answers.replies.erase(at);
    }
  }
  for (const auto& [peer, reason] : answers.rejected) {
    ctx.journal.write(round, journal::Event("reject").about(peer).set("reason", reason));
  }
  report.replied = static_cast<std::int64_t>(answers.replies.size());
  report.rejected = static_cast<std::int64_t>(answers.rejected.size());
  report.lost = report.clients - report.replied - report.rejected;
  if (report.replied < plan.quorum_count()) {
    throw QuorumError(
        "round " + std::to_string(round) + ": quorum not reached: " +
            std::to_string(report.replied) + " of " + std::to_string(report.clients) +
            " usable answers, " + std::to_string(plan.quorum_count()) + " needed",
        "lower clients.quorum or raise clients.deadline_s; --resume goes on from round " +
            std::to_string(round - 1));
  }

  const auto started = std::chrono::steady_clock::now();
  const std::vector<float> before = ctx.weights;
  const Merged merged = merge(round, answers.replies, ctx);
  report.examples = merged.examples;
  report.train_loss = merged.train_loss;
  report.update_norm = math::distance(before, ctx.weights);
  report.aggregate_ms = to_ms(std::chrono::steady_clock::now() - started);
  co_return report;
}

}  // namespace fedctl::methods
