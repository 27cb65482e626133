// Stragglers: what the clients' own history says of the next round: how long to wait, how many to
// ask, whom to leave in peace, and who is not what it was (docs/deadlines.md).
//
// Rules: fault-tolerance.md, "Fault and straggler detection". Everything follows from what the
// method saw of its endpoint, so a round that is replayed comes to the same.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "journal/journal.hpp"
#include "talk/endpoint.hpp"

namespace fedctl::methods {

class Stragglers {
 public:
  // Deadlines and cohorts follow the clients if `adaptive`; else this only watches.
  explicit Stragglers(bool adaptive) : adaptive_(adaptive) {}
  bool adaptive() const { return adaptive_; }

  // For this cohort: 1.5 times the time in which four fifths of it usually answer, at least
  // kLeastS; nullopt while less than half of it has a history.
  std::optional<double> deadline_s(std::span<const talk::PeerId> cohort) const;
  // How many to ask so that about `wanted` answer, by the share that did not in earlier rounds.
  std::int64_t to_ask(std::int64_t wanted) const;
  bool isolated(talk::PeerId peer, std::int64_t round) const;
  // The last task that the client was given, if its answer was not used; else 0.
  std::int64_t unused(talk::PeerId peer) const;

  // What came of a round; times in seconds.
  struct Round {
    std::int64_t round = 0;
    talk::ExchangeId task = 0;                // its number
    bool failed = false;                      // it is asked again: nothing is held against anybody
    double whole = 0;                         // since the end of the round before
    double open = 0;                          // of which questions were open
    std::map<talk::PeerId, double> answered;  // from the question to the answer
    // Answers to older questions: of which round, and when, from the end of the round before.
    struct Late {
      talk::PeerId peer = 0;
      std::int64_t round = 0;
      double since = 0;
    };
    std::vector<Late> late;
    std::vector<talk::PeerId> silent, lost;  // of those asked
    std::vector<talk::PeerId> rejected;      // of those that answered
    bool extended = false;                   // most were late at first
    bool servers_fault = false;              // most were late: nothing is held against them
  };
  // The journal's lines about it: `straggler` (docs/journal.md).
  std::vector<journal::Event> close(const Round& round);

  talk::Message save() const;
  void load(const talk::Message& state);  // throws ProtocolError

  static constexpr double kLeastS = 1;  // below it no difference of times is worth a word

 private:
  // The time that a question took, or has taken by now.
  struct Taken {
    double time = 0;
    bool struck = false;   // that it is too long has been said already
    bool lenient = false;  // of a round that was slow for most
  };
  // A question that was not answered in time; its client may still be at work on it.
  struct Open {
    double age = 0, limit = 0;  // beyond it the client counts as dropped
    bool excused = false, struck = false, lenient = false;  // as in Taken
  };
  struct Client {
    std::int64_t answers = 0;      // in `usual`
    double usual = 0, spread = 0;  // moving averages of the time and of its distance from usual
    std::int64_t strikes = 0;      // rounds in a row beyond bound()
    double held = 0;               // the answer that was the first of them; 0: none
    bool anew = false;             // the next answer begins the averages
    std::int64_t slow_rounds = 0;  // in a row far behind the others
    bool chronic = false;
    std::int64_t isolations = 0, until = 0;  // how often, and the last round of the last one
    bool probe = false;                      // back from it, and has not answered yet
    std::int64_t clean = 0;                  // answers since the last drop
    std::vector<std::int64_t> drops;         // rounds, within the last kDropRounds
    std::map<std::int64_t, Open> open;       // by round
    std::int64_t unused = 0;                 // exchange

    double bound() const;
    bool far_beyond(const Taken& taken) const;
    void learn(double took);
  };
  static constexpr std::size_t kDropsMax = 3;        // in kDropRounds, then it is isolated
  static constexpr std::size_t kOpenMax = 4;         // questions of a client that are remembered
  static constexpr std::int64_t kIsolationsMax = 6;  // for 2^6 rounds
  static constexpr std::size_t kColumns = 14 + kDropsMax + 4 * kOpenMax;  // of a client in save()
  using Events = std::vector<journal::Event>;
  void heard(talk::PeerId peer, Client& client, const Taken& taken, Events& events);
  void strike(talk::PeerId peer, Client& client, const Taken& taken, Events& events);
  void drop(talk::PeerId peer, Client& client, std::int64_t round, Events& events);
  void find_chronic(const std::vector<talk::PeerId>& heard_from, Events& events);

  bool adaptive_;
  double drop_share_ = 0;  // moving average over the rounds
  std::map<talk::PeerId, Client> clients_;
};

}  // namespace fedctl::methods
