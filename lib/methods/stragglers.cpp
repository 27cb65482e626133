#include "methods/stragglers.hpp"

#include <algorithm>
#include <cmath>

namespace fedctl::methods {
namespace {

using journal::Event;
using talk::PeerId;

// Deviation from the paper: the sheet's averages move by 0.3 and its bound for "slow" is usual + 4
// spread. Under its own test (log-normal jitter of 30 %, 1000 rounds) that flags 79 % of the
// clients; with 0.1 and a factor of 2.5 beside it 0.1 % (docs/deadlines.md).
constexpr double kRate = 0.1;
constexpr double kSlowSpreads = 4, kSlowFactor = 2.5;
// Beyond it one time is evidence enough, in a round that was not slow for most: under that jitter
// 0.5 % of the clients in 1000 rounds.
constexpr double kSlowAtOnceFactor = 3.75;
constexpr std::int64_t kHistory = 5;      // answers before anything is said of a client
constexpr std::int64_t kSlowStrikes = 2;  // rounds in a row
// Deviation from the paper: beside the sheet's three deviations, three quarters more than the
// median, and five rounds in a row: without these 92 % of clients that are alike are flagged.
constexpr double kChronicDeviations = 3 * 1.4826, kChronicFactor = 1.75;
constexpr std::int64_t kChronicRounds = 5;
constexpr double kDeadlineShare = 0.8, kDeadlineFactor = 1.5;
constexpr double kDropShareMax = 0.5;
// Deviation from the paper: a client is dropped when it is lost, or at work for 1.5 times the
// deadline: one at 1.5 times the usual cuts off 4 % of answers that are nobody's fault.
constexpr double kDropFactor = 1.5;
constexpr std::int64_t kDropRounds = 10;

// The value that a share of them is at most. Precondition: not empty.
double quantile(std::vector<double> values, double share) {
  const auto rank = std::ceil(share * static_cast<double>(values.size()) - 1e-9);
  const auto at =
      values.begin() + std::max<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(rank) - 1);
  std::ranges::nth_element(values, at);
  return *at;
}

Event straggler(PeerId peer, const char* what) {
  return Event("straggler").about(peer).set("what", std::string(what));
}

}  // namespace

double Stragglers::Client::bound() const {
  return std::max({usual + kSlowSpreads * spread, kSlowFactor * usual, usual + kLeastS});
}

bool Stragglers::Client::far_beyond(const Taken& taken) const {
  return !taken.lenient && taken.time > kSlowAtOnceFactor * usual;
}

void Stragglers::Client::learn(double took) {
  if (std::exchange(anew, false)) answers = 0;
  ++answers;
  const double rate = std::max(kRate, 1 / static_cast<double>(answers));
  if (answers == 1) {
    usual = took;
    spread = took / 4;
    return;
  }
  spread += rate * (std::abs(took - usual) - spread);
  usual += rate * (took - usual);
}

std::optional<double> Stragglers::deadline_s(std::span<const PeerId> cohort) const {
  std::vector<double> usual;
  for (const PeerId peer : cohort) {
    const auto found = clients_.find(peer);
    if (found != clients_.end() && found->second.answers > 0) {
      usual.push_back(found->second.usual);
    }
  }
  if (usual.empty() || 2 * usual.size() < cohort.size()) return std::nullopt;
  return std::max(kLeastS, kDeadlineFactor * quantile(std::move(usual), kDeadlineShare));
}

std::int64_t Stragglers::to_ask(std::int64_t wanted) const {
  if (!adaptive_) return wanted;
  const double answering = 1 - std::min(drop_share_, kDropShareMax);
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(wanted) / answering - 1e-9));
}

bool Stragglers::isolated(PeerId peer, std::int64_t round) const {
  const auto found = clients_.find(peer);
  return adaptive_ && found != clients_.end() && round <= found->second.until;
}

std::int64_t Stragglers::unused(PeerId peer) const {
  const auto found = clients_.find(peer);
  return found == clients_.end() ? 0 : found->second.unused;
}

// One more round in which the client is beyond its bound.
void Stragglers::strike(PeerId peer, Client& client, const Taken& taken, Events& events) {
  const double took = taken.time;
  client.strikes += client.far_beyond(taken) ? kSlowStrikes : 1;
  if (client.strikes < kSlowStrikes) return;
  events.push_back(
      straggler(peer, "slow").set("usual_ms", client.usual * 1e3).set("took_ms", took * 1e3));
  // What it does now is what it usually does.
  client.strikes = 0;
  client.held = 0;
  client.anew = true;
}

void Stragglers::heard(PeerId peer, Client& client, const Taken& taken, Events& events) {
  const double took = taken.time;
  if (client.answers >= kHistory && !client.anew && took > client.bound()) {
    if (!taken.struck || client.far_beyond(taken)) strike(peer, client, taken, events);
    if (client.anew) {
      client.learn(took);
    } else {
      client.held = took;
    }
    return;
  }
  client.strikes = 0;
  if (const double held = std::exchange(client.held, 0); held > 0) client.learn(held);
  client.learn(took);
}

void Stragglers::drop(PeerId peer, Client& client, std::int64_t round, Events& events) {
  client.clean = 0;
  std::erase_if(client.drops, [&](std::int64_t old) { return old <= round - kDropRounds; });
  client.drops.push_back(round);
  if (!adaptive_ || (client.drops.size() < kDropsMax && !client.probe)) return;
  client.isolations = std::min(client.isolations + 1, kIsolationsMax);
  const std::int64_t rounds = std::int64_t{1} << client.isolations;
  client.until = round + rounds;
  client.probe = true;
  client.drops.clear();
  events.push_back(straggler(peer, "isolated").set("rounds", rounds));
}

void Stragglers::find_chronic(const std::vector<PeerId>& heard_from, Events& events) {
  std::vector<double> usual;
  for (const auto& [peer, client] : clients_) {
    if (client.answers >= kHistory) usual.push_back(client.usual);
  }
  if (usual.size() < static_cast<std::size_t>(kHistory)) return;
  const double median = quantile(usual, 0.5);
  for (double& value : usual) value = std::abs(value - median);
  const double deviation = quantile(std::move(usual), 0.5);
  const double bound = std::max(
      {median + kChronicDeviations * deviation, kChronicFactor * median, median + kLeastS});
  for (const PeerId peer : heard_from) {
    Client& client = clients_.at(peer);
    if (client.answers < kHistory || client.usual <= bound) {
      client.slow_rounds = 0;
      client.chronic = false;
    } else if (++client.slow_rounds >= kChronicRounds && !std::exchange(client.chronic, true)) {
      events.push_back(straggler(peer, "chronic")
                           .set("usual_ms", client.usual * 1e3)
                           .set("median_ms", median * 1e3));
    }
  }
}

std::vector<Event> Stragglers::close(const Round& round) {
  Events events;
  const auto task = static_cast<std::int64_t>(round.task);
  for (const auto& [peer, took] : round.answered) clients_[peer].unused = round.failed ? task : 0;
  for (const auto* peers : {&round.silent, &round.lost, &round.rejected}) {
    for (const PeerId peer : *peers) clients_[peer].unused = task;
  }
  if (round.failed) return events;
  std::vector<PeerId> heard_from;
  // When work on this round's question began, from when it was sent: behind an older one.
  std::map<PeerId, double> begun;
  for (const Round::Late& late : round.late) {
    Client& client = clients_[late.peer];
    const auto question = client.open.find(late.round);
    if (question == client.open.end()) continue;
    if (!question->second.excused) {
      const Open& open = question->second;
      heard(late.peer, client, {open.age + late.since, open.struck, open.lenient}, events);
      heard_from.push_back(late.peer);
    }
    // Answers come in the order of the questions; work on the next one begins now.
    client.open.erase(client.open.begin(), std::next(question));
    if (!client.open.empty()) client.open.begin()->second.age = -late.since;
    begun[late.peer] = std::max(0.0, late.since - (round.whole - round.open));
  }
  for (const auto& [peer, took] : round.answered) {
    Client& client = clients_[peer];
    client.open.clear();
    if (round.servers_fault) continue;
    heard(peer, client, {took - begun[peer], false, round.extended}, events);
    heard_from.push_back(peer);
    client.probe = false;
    if (++client.clean >= kDropRounds) client.isolations = 0;
  }
  for (const PeerId peer : round.lost) {
    Client& client = clients_[peer];
    client.open.clear();
    if (!round.servers_fault) drop(peer, client, round.round, events);
  }
  for (auto& [peer, client] : clients_) {
    for (auto& [asked, question] : client.open) question.age += round.whole;
  }
  for (const PeerId peer : round.silent) {
    Client& client = clients_[peer];
    client.open[round.round] = {round.open - begun[peer], kDropFactor * round.open,
                                round.servers_fault, false, round.extended};
    if (client.open.size() > kOpenMax) client.open.erase(client.open.begin());
    Open& oldest = client.open.begin()->second;
    if (oldest.excused) continue;
    if (client.answers >= kHistory && !client.anew && oldest.age > client.bound()) {
      oldest.struck = true;
      strike(peer, client, {oldest.age, false, oldest.lenient}, events);
    }
    if (oldest.age > oldest.limit) drop(peer, client, round.round, events);
  }
  const std::size_t failed = round.silent.size() + round.lost.size();
  if (const std::size_t asked = failed + round.answered.size(); asked > 0 && !round.servers_fault) {
    drop_share_ += kRate * (static_cast<double>(failed) / static_cast<double>(asked) - drop_share_);
  }
  find_chronic(heard_from, events);
  return events;
}

}  // namespace fedctl::methods
