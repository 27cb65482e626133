#include "run/durable_endpoint.hpp"

#include <algorithm>
#include <filesystem>

#include "run/run_directory.hpp"
#include "talk/frame_cache.hpp"

namespace fedctl::run {

namespace fs = std::filesystem;
using talk::Envelope;
using talk::Message;
using talk::PeerId;

namespace {
std::size_t bytes_of(const Envelope& envelope) {
  const auto* message = std::get_if<Message>(&envelope.event);
  return message != nullptr ? wire::payload_bytes(*message) : 0;
}

// Behind the spool's name: one file for every end in the midst of its round.
const std::string kEnded = ".ended-";
constexpr const char* kNotBack = "did not come back after the server's restart";
}  // namespace

DurableEndpoint::DurableEndpoint(talk::Endpoint& network, talk::Ledger& ledger, Options options)
    : network_(network), ledger_(ledger), options_(std::move(options)) {}

void DurableEndpoint::begin(std::int64_t round, std::int64_t attempt) {
  const TimePoint boundary = now();
  const std::string path = options_.folder + '/' + round_name(round) +
                           (attempt == 0 ? "" : '-' + std::to_string(attempt));
  spool_ = std::make_unique<Spool>(path);
  // What has been heard and not asked for yet belongs to this round.
  const bool anything = to_replay() || !heard_.empty();
  while (to_replay()) {
    const Received received = next_of_replay();
    spool_->append(received.envelope ? &*received.envelope : nullptr, {});
  }
  replay_.emplace(spool_->records());
  for (const Envelope& envelope : heard_) spool_->append(&envelope, {});
  if (anything) spool_->sync();
  began_ = replay_at_ = boundary;
  if (replaying_ && !to_replay()) end_replay();
  replaying_ = to_replay();
  path_ = path;
  endings_ = 0;
  for (const auto& entry : fs::directory_iterator(options_.folder)) {
    if (entry.path().string().starts_with(path + kEnded)) {
      ++endings_;
    } else if (entry.path() != fs::path(path)) {
      fs::remove(entry.path());
    }
  }
  // Questions of earlier rounds are closed: a late answer is the method's affair.
  while (options_.rounds && !questions_.empty()) close(questions_.begin()->first);
}

void DurableEndpoint::end() {
  write_atomically(path_ + kEnded + std::to_string(endings_ + 1), ByteView{});
}

Received DurableEndpoint::next_of_replay() {
  std::optional<Received> next = replay_->next();
  if (!next) throw RunDirectoryError(options_.folder + ": the spool is not what it was");
  return std::move(*next);
}

std::map<PeerId, std::int64_t> DurableEndpoint::open() const {
  std::map<PeerId, std::int64_t> open;
  if (options_.rounds) return open;
  for (const auto& [peer, question] : questions_) {
    open.emplace(peer, static_cast<std::int64_t>(question.exchange));
  }
  return open;
}

std::map<PeerId, std::int64_t> DurableEndpoint::sessions() const {
  std::map<PeerId, std::int64_t> sessions;
  for (const PeerId peer : present_) {
    if (const auto found = sessions_.find(peer); found != sessions_.end()) sessions.insert(*found);
  }
  return sessions;
}

void DurableEndpoint::close(PeerId peer) {
  const auto found = questions_.find(peer);
  if (found == questions_.end()) return;
  const Question& question = found->second;
  if (question.by_another) {
    count(*question.message, peer, talk::Direction::down, question.exchange);
  }
  questions_.erase(found);
}

void DurableEndpoint::restore(std::map<PeerId, std::int64_t> sessions) {
  sessions_ = std::move(sessions);
  for (const auto& [peer, session] : sessions_) {
    present_.insert(peer);
    absent_[peer] = {network_.now() + options_.grace, kNotBack};
  }
}

// What the socket counted in the process before this one, or would have.
void DurableEndpoint::count(const Message& message, PeerId peer, talk::Direction direction,
                            talk::ExchangeId exchange) {
  ledger_.add(peer, direction, talk::make_frame(exchange, message)->parts);
}

talk::Task<void> DurableEndpoint::send(PeerId to, talk::ExchangeId exchange,
                                       talk::SharedMessage message) {
  // Asked once more, a question is counted once.
  const auto before = questions_.find(to);
  if (before != questions_.end() && before->second.exchange == exchange) {
    questions_.erase(before);
  } else {
    close(to);
  }
  // What the spool has no answer to is sent when the spool has been read.
  const auto counted = counted_.find(to);
  const bool again =
      counted != counted_.end() && counted->second == static_cast<std::int64_t>(exchange);
  questions_[to] = {exchange, message, to_replay() && !again};
  if (replaying_ || !connected_.contains(to)) co_return;
  co_await network_.send(to, exchange, std::move(message));
}

void DurableEndpoint::apply(const Envelope& envelope) {
  const PeerId from = envelope.from;
  if (const auto* joined = std::get_if<talk::Joined>(&envelope.event)) {
    present_.insert(from);
    if (replaying_) {
      sessions_[from] = joined->session;
      if (!connected_.contains(from)) absent_[from] = {network_.now() + options_.grace, kNotBack};
    }
  } else if (std::holds_alternative<talk::Lost>(envelope.event)) {
    present_.erase(from);
    if (replaying_) {
      sessions_.erase(from);
      absent_.erase(from);
      close(from);
    }
  } else if (const auto* message = std::get_if<Message>(&envelope.event)) {
    if (replaying_) count(*message, from, talk::Direction::up, envelope.exchange);
    const auto question = questions_.find(from);
    if (question == questions_.end() || question->second.exchange != envelope.exchange) return;
    close(from);
  }
}

talk::Task<void> DurableEndpoint::ask_again(PeerId peer) {
  const auto question = questions_.find(peer);
  if (question == questions_.end()) co_return;
  question->second.by_another = false;
  const talk::ExchangeId exchange = question->second.exchange;
  talk::SharedMessage message = question->second.message;
  co_await network_.send(peer, exchange, std::move(message));
}

// Time goes on from where it was.
void DurableEndpoint::end_replay() {
  replaying_ = false;
  shift_ = replay_at_ - network_.now();
}

talk::Task<void> DurableEndpoint::after_replay() {
  end_replay();
  std::vector<PeerId> unasked;
  for (const auto& [peer, question] : questions_) {
    if (connected_.contains(peer)) unasked.push_back(peer);
  }
  for (const PeerId peer : unasked) co_await ask_again(peer);
}

// What the network says, as far as the method is to know.
talk::Task<void> DurableEndpoint::hear(Envelope envelope) {
  const PeerId peer = envelope.from;
  if (std::holds_alternative<talk::Closed>(envelope.event)) {
    closed_ = true;
    co_return;
  }
  if (const auto* lost = std::get_if<talk::Lost>(&envelope.event)) {
    connected_.erase(peer);
    if (sessions_.contains(peer)) {
      const Duration grace = lost->for_good ? Duration{} : options_.grace;
      absent_[peer] = {network_.now() + grace, lost->reason};
    }
    co_return;
  }
  if (const auto* joined = std::get_if<talk::Joined>(&envelope.event)) {
    connected_.insert(peer);
    absent_.erase(peer);
    const auto known = sessions_.find(peer);
    if (known != sessions_.end()) {
      if (known->second == joined->session && joined->session != 0) {
        co_await ask_again(peer);
        co_return;
      }
      // Another process: the method hears that it has come, and asks anew; counted then.
      questions_.erase(peer);
    }
    sessions_[peer] = joined->session;
  }
  heard_.push_back(std::move(envelope));
}

void DurableEndpoint::give_up_absent(TimePoint at) {
  for (auto absence = absent_.begin(); absence != absent_.end();) {
    if (absence->second.until > at) {
      ++absence;
      continue;
    }
    heard_.push_back({absence->first, 0, talk::Lost{absence->second.reason}});
    sessions_.erase(absence->first);
    close(absence->first);
    absence = absent_.erase(absence);
  }
}

talk::Task<std::optional<Envelope>> DurableEndpoint::receive(TimePoint until) {
  if (replaying_) {
    if (to_replay()) {
      Received received = next_of_replay();
      replay_at_ = began_ + received.at;
      if (received.envelope) apply(*received.envelope);
      co_return std::move(received.envelope);
    }
    co_await after_replay();
  }
  while (heard_.empty()) {
    if (closed_) co_return Envelope{talk::kServer, 0, talk::Closed{}};
    TimePoint wake = until == kForever ? kForever : until - shift_;
    for (const auto& [peer, absence] : absent_) wake = std::min(wake, absence.until);
    std::optional<Envelope> first = co_await network_.receive(wake);
    // All that has arrived is synced at once, as much as memory is for.
    std::size_t heard_bytes = 0;
    while (first && !closed_) {
      heard_bytes += bytes_of(*first);
      co_await hear(std::move(*first));
      if (closed_ || heard_bytes >= limits::kHeardBytesMax) break;
      first = co_await network_.receive(network_.now());
    }
    give_up_absent(network_.now());
    for (const Envelope& envelope : heard_) append(&envelope);
    if (options_.sync_always && !heard_.empty()) {
      spool_->sync();
    } else {
      spool_->flush();
    }
    if (heard_.empty() && !closed_ && now() >= until) {
      append(nullptr);
      spool_->flush();
      co_return std::nullopt;
    }
  }
  Envelope envelope = std::move(heard_.front());
  heard_.pop_front();
  apply(envelope);
  co_return envelope;
}

}  // namespace fedctl::run
