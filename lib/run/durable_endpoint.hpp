// DurableEndpoint: stands between the server's network and its codecs, so that neither a crash of
// the server nor a broken connection shows to the method (docs/durability.md).
//
// Every result of receive() goes to the spool before it is returned; after a restart they come from
// there first, and now() says what it said then: the time between two processes does not pass. A
// client that comes back in time with the session it had has never been away: what
// it was asked and has not answered is sent again.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "run/spool.hpp"
#include "talk/ledger.hpp"

namespace fedctl::run {

class DurableEndpoint final : public talk::Endpoint {
 public:
  struct Options {
    std::string folder;       // of the spools
    bool sync_always = true;  // else only at round boundaries
    Duration grace{};         // how long a client may be away
    bool rounds = true;       // else questions stay open behind a boundary
  };
  // `network` and `ledger` outlive it. The ledger gets the bytes that an earlier process has
  // counted for what comes from the spool.
  DurableEndpoint(talk::Endpoint& network, talk::Ledger& ledger, Options options);

  // A round boundary: what was spooled for other rounds is dropped, and what is there of this one,
  // by an earlier process, is fed to the method. `attempt`: at the round; each has a spool of its
  // own. Throws RunDirectoryError.
  void begin(std::int64_t round, std::int64_t attempt = 0);

  // The run ends here, without a boundary; how often it had when this process began.
  void end();
  std::int64_t endings() const { return endings_; }

  // The questions that stay open at a boundary: exchanges by client.
  std::map<talk::PeerId, std::int64_t> open() const;
  // Those of a checkpoint: their bytes have been counted.
  void restore_open(std::map<talk::PeerId, std::int64_t> open) { counted_ = std::move(open); }

  // The clients that take part and their sessions, at a boundary.
  std::map<talk::PeerId, std::int64_t> sessions() const;
  // Those of a checkpoint: they are present as soon as they are back, and absent after the grace.
  void restore(std::map<talk::PeerId, std::int64_t> sessions);

  std::vector<talk::PeerId> peers() const override { return {present_.begin(), present_.end()}; }
  std::size_t peer_count() const override { return present_.size(); }
  std::shared_ptr<Scratch> scratch() const override { return network_.scratch(); }
  TimePoint now() const override { return replaying_ ? replay_at_ : network_.now() + shift_; }
  void spend(Duration modelled) override { network_.spend(modelled); }
  talk::Task<void> send(talk::PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override;
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override;

 private:
  struct Question {
    talk::ExchangeId exchange = 0;
    talk::SharedMessage message;
    bool by_another = false;  // an earlier process has sent it, and this one has not
  };
  void append(const talk::Envelope* received) { spool_->append(received, now() - began_); }
  bool to_replay() const { return replay_ && replay_->more(); }
  Received next_of_replay();
  void end_replay();
  // What the method is about to see.
  void apply(const talk::Envelope& envelope);
  talk::Task<void> after_replay();
  talk::Task<void> ask_again(talk::PeerId peer);
  talk::Task<void> hear(talk::Envelope envelope);
  void give_up_absent(TimePoint at);
  void count(const talk::Message& message, talk::PeerId peer, talk::Direction direction,
             talk::ExchangeId exchange);
  void close(talk::PeerId peer);  // its question, if one is open

  talk::Endpoint& network_;
  talk::Ledger& ledger_;
  Options options_;
  std::unique_ptr<Spool> spool_;
  std::optional<SpoolRecords> replay_;  // whole records all: the spool has looked
  bool replaying_ = false;
  TimePoint began_{};                              // the round, by now()
  TimePoint replay_at_{};                          // now(), while replaying
  Duration shift_{};                               // from the network's time to now()
  std::deque<talk::Envelope> heard_;               // in the spool, not yet returned
  std::set<talk::PeerId> present_;                 // as the method has heard
  std::map<talk::PeerId, std::int64_t> sessions_;  // of those it has heard of or is about to
  std::set<talk::PeerId> connected_;               // as the network says
  struct Absence {
    TimePoint until;
    std::string reason;
  };
  std::map<talk::PeerId, Absence> absent_;        // present for the method, not connected
  std::map<talk::PeerId, Question> questions_;    // not answered
  std::map<talk::PeerId, std::int64_t> counted_;  // open when this process began
  std::string path_;  // of the spool
  std::int64_t endings_ = 0;
  bool closed_ = false;
};

}  // namespace fedctl::run
